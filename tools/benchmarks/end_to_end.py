#!/usr/bin/env python
"""Time training as tools/train.py runs it, against its steps alone and against a plain loop.

The runner trains with data, hooks and logging of the config, without validation. After each block
of iterations it waits for blocks of steps of the same model, and of the plain loop. What it spends
outside of the model's steps is also measured by itself, within its own iterations.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

from timing import (  # noqa: E402
    COLOURS,
    add_common_options,
    add_pairs_option,
    quartiles,
    ratios,
    run_pairs,
    seconds_of,
    show_table,
    spread,
    synchronise,
    to_png,
)

from hsakd.utils.cli import positive_number, run_tool  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add_pairs_option(parser)
    known = ['exact', 'fast']
    add('--variants', nargs='+', choices=known, default=known, help='(exact fast)')
    add('--batch-size', type=positive_number, metavar='N', help='(64, on the CPU 16; at 224 less)')
    add('--rounds', type=positive_number, default=15, help='of blocks, that are timed (15)')
    add(
        '--block',
        type=positive_number,
        help="iterations, of which one is logged (50, the configs' interval; on the CPU 5)",
    )
    add_common_options(parser)
    return parser.parse_args()


def main() -> None:
    """Measure each pair, report."""
    run_pairs(parse_args(), measure, show_pair, draw)


def measure(name: str, folder: Path, args: argparse.Namespace) -> dict:
    """Train in each mode for a while."""
    import torch
    from mmengine.hooks import Hook
    from variants import Subject, endless, steps_of

    class Enough(Exception):
        """What ends the training."""

    class Blocks(Hook):
        """Stops the time of blocks of iterations, and has others run between them.

        Each block comes after the plain loop, which leaves memory and caches to others as they are
        not in training; its first step is not timed.
        """

        priority = 'LOWEST'

        def __init__(self, others: dict) -> None:
            self.others = others
            self.seconds = {key: [] for key in ('runner', *others)}
            self.warm = False  # once the first block is over
            self.in_steps = 0.0  # of the model, in this block
            self.outside = []

        def before_train(self, runner) -> None:
            train_step = runner.model.train_step

            def timed(*args, **kwargs) -> dict:
                start = time.perf_counter()
                outputs = train_step(*args, **kwargs)
                self.in_steps += time.perf_counter() - start
                return outputs

            runner.model.train_step = timed

        def after_train_iter(self, runner, *args, **kwargs) -> None:
            done = (runner.iter + 1) % (block + 1)
            if done > 1:
                return
            synchronise()
            if done == 1:
                self.started, self.in_steps = time.perf_counter(), 0.0
                return
            seconds = dict(runner=(time.perf_counter() - self.started) / block)
            outside = seconds['runner'] - self.in_steps / block
            for key, step in self.others.items():
                step()
                synchronise()
                seconds[key] = seconds_of(step, block)
            if self.warm:
                for key, value in seconds.items():
                    self.seconds[key].append(value)
                self.outside.append(outside)
            self.warm = True
            self.others['plain']()
            if len(self.seconds['runner']) == rounds:
                raise Enough

    on_gpu = torch.cuda.is_available()
    block = args.block or (50 if on_gpu else 5)
    rounds = args.rounds
    workers = args.workers if args.workers is not None else 2 * on_gpu
    batches = (block + 1) * (rounds + 2)  # so that no epoch ends, with a checkpoint
    options = {'train_dataloader.num_workers': workers, **args.cfg_options}  # as the plain loop
    options['default_hooks.logger.interval'] = block + 1
    subject = Subject(name, folder, batches, args.batch_size, options)
    plain = subject.plain(workers)
    result = {}
    for mode in args.variants:
        runner = subject.runner(mode == 'fast')
        # A loader of its own, of the same kind: the runner's may be in use by its workers.
        loader = subject.runner(mode == 'fast').train_loop.dataloader
        hook = Blocks(dict(plain=plain.step, step=steps_of(runner, endless(loader)).step))
        runner.register_hook(hook)
        try:
            runner.train()
        except Enough:
            for point in ('after_train', 'after_run'):
                runner.call_hook(point)
        seconds = hook.seconds
        result[mode] = dict(
            seconds=seconds,
            images_per_second={
                key: quartiles(subject.batch_size / s for s in values)
                for key, values in seconds.items()
            },
            ratio_to_step=ratios(seconds['step'], seconds['runner']),
            ratio_to_plain=ratios(seconds['plain'], seconds['runner']),
            outside_seconds=None if on_gpu else quartiles(hook.outside),
            overhead_seconds=quartiles(
                r - s for r, s in zip(seconds['runner'], seconds['step'], strict=True)
            ),
        )
    return dict(config=subject.path, batch_size=subject.batch_size, block=block, variants=result)


def show_pair(name: str, pair: dict) -> None:
    """A table."""
    rows = []
    for key, v in pair['variants'].items():
        rates = [spread(v['images_per_second'][kind]) for kind in ('plain', 'step', 'runner')]
        compared = [spread(v[f'ratio_to_{kind}'], 3) for kind in ('plain', 'step')]
        overhead = spread([1e3 * seconds for seconds in v['overhead_seconds']], 2)
        outside = v['outside_seconds']  # on a GPU the model's steps go on meanwhile
        outside = spread([1e3 * seconds for seconds in outside], 2) if outside else '-'
        rows.append([Path(name).stem, key, *rates, *compared, overhead, outside])
    show_table(
        f'Batches of {pair["batch_size"]}, blocks of {pair["block"]}: medians (quartiles); '
        'images/s before rotation',
        ['pair', 'variant', 'plain', 'step alone', 'training', 'training x plain']
        + ['training x step', 'ms more than step', 'ms outside of its own steps'],
        rows,
    )


def draw(report: dict) -> bytes:
    """Rates of plain loop, steps and training; a PNG."""
    from matplotlib.figure import Figure

    rows = [
        (name, mode, kind, v)
        for name, pair in report['pairs'].items()
        for mode, v in pair['variants'].items()
        for kind in ('plain', 'step', 'runner')
    ]
    said = dict(plain='plain loop beside {}', step='{} step alone', runner='{} training')
    figure = Figure(figsize=(9, 1.2 + 0.4 * len(rows)), dpi=160, layout='constrained')
    axes = figure.subplots()
    for position, (_, mode, kind, v) in enumerate(rows):
        plain = v['images_per_second']['plain'][1]
        low, median, high = (rate / plain for rate in v['images_per_second'][kind])
        colour = COLOURS['plain' if kind == 'plain' else mode]
        axes.barh(position, median, color=colour, alpha=0.6 if kind == 'step' else 1)
        axes.errorbar(median, position, xerr=[[median - low], [high - median]], color='black')
        text = f'{v["images_per_second"][kind][1]:,.1f}/s'
        if kind == 'runner':
            text += f', {v["ratio_to_step"][1]:.1%} of the step'
        axes.annotate(
            text, (high, position), (6, 0), textcoords='offset points', va='center', fontsize=8
        )
    labels = [f'{Path(name).stem}  {said[kind].format(mode)}' for name, mode, kind, _ in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.4 * axes.get_xlim()[1])
    axes.set_xlabel("images a second over the plain loop's; lines are quartiles")
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(axis='x', alpha=0.25)
    axes.set_axisbelow(True)
    return to_png(figure)


if __name__ == '__main__':
    run_tool(main)

#!/usr/bin/env python
"""Time steps of training, ours and a plain loop's, in turns in one process.

A step takes a batch from its loader and trains on it. Images are made up.
"""

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

from timing import (  # noqa: E402
    COLOURS,
    PHASE_COLOURS,
    PHASES,
    Memory,
    add_common_options,
    add_pairs_option,
    bf16_peak,
    count_flops,
    interleaved,
    phases,
    quartiles,
    ratios,
    run_pairs,
    seconds_of,
    show_table,
    spread,
    to_png,
)

from hsakd.utils.cli import positive_number, run_tool  # noqa: E402

WARM_UP = 3  # steps, of which the first compiles
TURN_ON_GPU = 5  # steps


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add_pairs_option(parser)
    known = list(COLOURS)
    add('--variants', nargs='+', choices=known, default=known, help='(plain exact fast)')
    add('--batch-size', type=positive_number, metavar='N', help='(64, on the CPU 16; at 224 less)')
    add('--steps', type=positive_number, default=15, help='rounds that are timed (15)')
    add('--peak', type=float, metavar='FLOP', help="a second, the GPU's in bfloat16")
    add_common_options(parser)
    return parser.parse_args()


def main() -> None:
    """Measure each pair, report."""
    run_pairs(parse_args(), measure, show_pair, draw)


def measure(name: str, folder: Path, args: argparse.Namespace) -> dict:
    """All figures of a pair."""
    import torch
    from variants import Subject

    on_gpu = torch.cuda.is_available()
    times = TURN_ON_GPU if on_gpu else 1
    workers = args.workers if args.workers is not None else 2 * on_gpu
    batches = WARM_UP + times * args.steps + 10  # no epoch ends, which may be in a smaller batch
    options = {'train_dataloader.num_workers': workers, **args.cfg_options}  # as the plain loop
    subject = Subject(name, folder, batches, args.batch_size, options)
    for_ours, for_plain = subject.same_batch()

    variants, result = {}, {}
    for variant_name in args.variants:
        memory = Memory()
        if variant_name == 'plain':
            variant, batch = subject.plain(workers), for_plain
        else:
            variant, batch = subject.ours(variant_name == 'fast'), for_ours
        losses = []
        first = seconds_of(lambda: losses.append(variant.train(batch)))  # noqa: B023
        for _ in range(WARM_UP - 1):
            variant.step()
        variants[variant_name] = variant
        result[variant_name] = dict(
            first_step_loss=torch.as_tensor(losses[0]).item(),
            first_step_seconds=first,
            peak_bytes=memory.peak(variant),
        )
    steps = {key: variant.step for key, variant in variants.items()}
    seconds = interleaved(steps, args.steps, times)
    for key, variant in variants.items():
        figures = result[key]
        figures['seconds'] = seconds[key]
        figures['images_per_second'] = quartiles(subject.batch_size / s for s in seconds[key])
        figures['phase_seconds'] = phases(variant, min(args.steps, 5))
    if 'plain' in variants:
        flops = count_flops(variants['plain'])
        peak = bf16_peak(args.peak)
        for key, figures in result.items():
            figures['ratio_to_plain'] = ratios(seconds['plain'], seconds[key])
            loss = result['plain']['first_step_loss']
            figures['loss_difference'] = abs(figures['first_step_loss'] / loss - 1)
            rate = flops * figures['images_per_second'][1] / subject.batch_size
            figures['flops_per_second'] = rate
            figures['share_of_bf16_peak'] = rate / peak if peak else None
    return dict(config=subject.path, batch_size=subject.batch_size, variants=result)


def show_pair(name: str, pair: dict) -> None:
    """Two tables."""
    rates, parts = [], []
    for key, v in pair['variants'].items():
        if 'ratio_to_plain' in v:
            share = v['share_of_bf16_peak']
            compared = [
                spread(v['ratio_to_plain'], 2),
                f'{v["loss_difference"]:.0e}',
                f'{v["flops_per_second"] / 1e9:,.0f}' + (f' ({share:.1%})' if share else ''),
            ]
        else:
            compared = [''] * 3
        rates.append(
            [Path(name).stem, key, spread(v['images_per_second']), *compared]
            + [f'{v["peak_bytes"] / 1e6:,.0f}', f'{v["first_step_seconds"]:.1f}']
        )
        medians = [1e3 * quartiles(v['phase_seconds'][phase])[1] for phase in PHASES]
        parts.append([Path(name).stem, key, *(f'{value:,.1f}' for value in medians)])
    show_table(
        f'Batches of {pair["batch_size"]}: medians (quartiles); images before rotation',
        ['pair', 'variant', 'images/s', 'x plain', 'loss differs by', 'GFLOP/s (of bf16 peak)']
        + ['peak MB', 'first step s'],
        rates,
    )
    show_table('Milliseconds of a step, by phase', ['pair', 'variant', *PHASES], parts)


def draw(report: dict) -> bytes:
    """Rates over the plain loop's, and the phases; a PNG."""
    from matplotlib.figure import Figure

    pairs = report['pairs']
    rows = [(name, key, v) for name, p in pairs.items() for key, v in p['variants'].items()]
    positions = [i + 0.8 * [*pairs].index(name) for i, (name, _, _) in enumerate(rows)]
    height = 1.6 + 0.36 * positions[-1]
    figure = Figure(figsize=(11, height), dpi=160, layout='constrained')
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1, 1.2])
    for position, (name, key, v) in zip(positions, rows, strict=True):
        low, median, high = v.get('ratio_to_plain', [0, 0, 0])
        left.barh(position, median, color=COLOURS[key], height=0.8)
        left.errorbar(median, position, xerr=[[median - low], [high - median]], color='black')
        text = f'{median:.2f} x, {v["images_per_second"][1]:,.1f}/s'
        left.annotate(
            text, (high, position), (6, 0), textcoords='offset points', va='center', fontsize=8
        )
        first = next(iter(pairs[name]['variants'].values()))['phase_seconds']
        whole = sum(quartiles(first[phase])[1] for phase in PHASES)
        start = 0.0
        for phase, colour in zip(PHASES, PHASE_COLOURS, strict=True):
            width = quartiles(v['phase_seconds'][phase])[1] / whole
            label = phase if position == positions[0] else None
            right.barh(position, width, left=start, color=colour, height=0.8, label=label)
            start += width
    left.set_yticks(positions, [f'{Path(name).stem}  {key}' for name, key, _ in rows], fontsize=8)
    left.invert_yaxis()
    left.set_xlim(0, 1.45 * max(v.get('ratio_to_plain', [1])[-1] for _, _, v in rows))
    left.set_xlabel("images a second over the plain loop's; lines are quartiles")
    right.set_xlabel("time of a step, over the pair's first")
    above = dict(loc='lower center', bbox_to_anchor=(0.5, 1), ncols=len(PHASES), frameon=False)
    right.legend(**above, fontsize=8, columnspacing=1, handlelength=1)
    for axes in (left, right):
        axes.spines[['top', 'right']].set_visible(False)
        axes.grid(axis='x', alpha=0.25)
        axes.set_axisbelow(True)
    return to_png(figure)


if __name__ == '__main__':
    run_tool(main)

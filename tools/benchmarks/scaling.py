#!/usr/bin/env python
"""Time and memory of a step by batch size, number of branches, M, and number of processes.

One of them changes at a time. Memory per image is also compared with a plain loop that trains the
student without its teacher.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

from timing import (  # noqa: E402
    Memory,
    add_common_options,
    check_common_options,
    finish,
    interleaved,
    machine,
    num_bytes,
    quartiles,
    settings,
    show_machine,
    show_table,
    spread,
    to_png,
)

from hsakd.utils.cli import positive_number, run_tool  # noqa: E402
from hsakd.utils.errors import UserError  # noqa: E402

ROTATION, COLOURS = dict(type='Rotation'), dict(type='ColorPermutation')
#: By M.
TRANSFORMS = {
    1: dict(type='NoTransform'),
    4: ROTATION,
    6: COLOURS,
    24: dict(type='CombinedTransforms', first=ROTATION, second=COLOURS),
}
AXES = dict(batch='images in a batch', branches='branches', m='M', world='processes')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add(
        '--pair',
        default='wrn-40-2_wrn-16-2',
        help='as of train_step.py, with a teacher (wrn-40-2_wrn-16-2)',
    )
    add('--fast', action='store_true', help='in fast mode, else exact')
    add('--batch-size', type=positive_number, metavar='N', help='where it does not change')
    numbers = dict(type=positive_number, nargs='+', metavar='N')
    add('--batch-sizes', **numbers, default=[4, 8, 16, 32], help='(4 8 16 32)')
    add('--branches', **numbers, help='how many, of the last stages (1 to all)')
    add('--m', type=int, nargs='+', choices=TRANSFORMS, default=[1, 4, 6], help='(1 4 6)')
    add('--world-sizes', **numbers, default=[1, 2], help='processes, each with a batch (1 2)')
    add('--steps', type=positive_number, default=7, help='that are timed (7)')
    add('--worker', type=Path, help=argparse.SUPPRESS)
    add_common_options(parser)
    return parser.parse_args()


def main() -> None:
    """Measure each point, report."""
    args = parse_args()
    if args.worker:
        work(args)
        return
    check_common_options(args)
    import torch
    from variants import Subject

    found = machine()
    show_machine(found)
    if torch.cuda.is_available() and max(args.world_sizes) > torch.cuda.device_count():
        raise UserError(
            f'--world-sizes {args.world_sizes}: there are {torch.cuda.device_count()} GPUs; '
            'accepted are up to as many'
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subject = Subject(args.pair, folder, 1, args.batch_size, args.cfg_options)
        if 'teacher' not in subject.config.model:
            raise UserError(f'--pair: {args.pair!r} has no teacher; accepted are those with one')
        known = subject.student.num_branches
        counts = args.branches or list(range(1, known + 1))
        if max(counts) > known:
            raise UserError(
                f'--branches {counts}: the student has {known}; accepted are 1..{known}'
            )
        size, m = subject.batch_size, subject.student.transforms.num_transforms
        stages = [list(subject.student.branches.stages)[-count:] for count in counts]
        axes = dict(
            batch=[(n, dict(batch_size=n)) for n in args.batch_sizes],
            branches=[
                (count, dict(batch_size=size, stages=chosen))
                for count, chosen in zip(counts, stages, strict=True)
            ],
            m=[(number, dict(batch_size=size, m=number)) for number in args.m],
            world=[(world, dict(batch_size=size, world=world)) for world in args.world_sizes],
        )
        points = {
            axis: [dict(value=value, **measure(point, args, folder)) for value, point in values]
            for axis, values in axes.items()
        }
        show(points)
        memory = compare_memory(size, args, folder) if m == 4 else None
    if memory:
        show_memory(memory)
    report = dict(settings=settings(args), machine=found, axes=points, memory_per_image=memory)
    finish(args, report, draw)


def measure(point: dict, args: argparse.Namespace, folder: Path) -> dict:
    """Seconds and bytes of a step, of one process or of the first of several."""
    world = point.get('world', 1)
    if world == 1:
        return measure_here(point, args, folder / 'data')
    job, result = folder / 'job.json', folder / 'result.json'
    keys = ('pair', 'fast', 'steps', 'cfg_options')
    options = {key: getattr(args, key) for key in keys}
    job.write_text(json.dumps(dict(point=point, result=str(result), options=options)))
    launch = [sys.executable, '-m', 'torch.distributed.run', '--standalone']
    threads = max(1, (os.cpu_count() or 1) // world)
    done = subprocess.run(
        [*launch, f'--nproc-per-node={world}', __file__, '--worker', job],
        env={'OMP_NUM_THREADS': str(threads), **os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(f'--world-sizes: {world} processes failed:\n{done.stderr[-2000:]}')
    return json.loads(result.read_text())


def work(args: argparse.Namespace) -> None:
    """Be one of several processes."""
    from mmengine.dist import get_rank

    from hsakd.engine.distributed import shutdown_processes

    job = json.loads(args.worker.read_text())
    vars(args).update(job['options'])
    folder = args.worker.parent / f'data-{os.environ["RANK"]}'
    found = measure_here(job['point'], args, folder, 'pytorch')
    if get_rank() == 0:
        Path(job['result']).write_text(json.dumps(found))
    shutdown_processes()


def measure_here(
    point: dict, args: argparse.Namespace, folder: Path, launcher: str = 'none'
) -> dict:
    """In this process."""
    import torch
    from variants import Subject

    def change(config) -> None:
        for network in (config.model.student, config.model.teacher):
            if 'stages' in point:
                network.branches.stages = point['stages']
            if 'm' in point:
                network.transforms = TRANSFORMS[point['m']]

    world, size = point.get('world', 1), point['batch_size']
    times = 5 if torch.cuda.is_available() else 1
    batches = times * args.steps + 8
    subject = Subject(args.pair, folder, world * batches, size, args.cfg_options, change)
    memory = Memory()
    variant = subject.ours(args.fast, launcher)
    for _ in range(3):
        variant.step()
    peak = memory.peak(variant)
    if launcher != 'none' and not torch.cuda.is_available():  # buckets, made before the steps
        peak += num_bytes(p for network in variant.networks for p in network.parameters())
    seconds = interleaved(dict(step=variant.step), args.steps, times)['step']
    return dict(
        step_seconds=quartiles(seconds),
        images_per_second=quartiles(world * size / s for s in seconds),
        peak_bytes=peak,
        seconds=seconds,
    )


def compare_memory(small: int, args: argparse.Namespace, folder: Path) -> dict:
    """Bytes an image adds to the peak, and the peaks, with our teacher and without in plain.

    What an image adds is the difference of the peaks of batches of ``small`` and twice as many
    images, over that of their sizes.
    """
    from variants import Subject

    sizes = [small, 2 * small]
    found = {}
    for name in ('plain loop without teacher', 'plain loop', 'ours'):
        peaks = []
        for size in sizes:
            subject = Subject(args.pair, folder / 'memory', 8, size, args.cfg_options)
            memory = Memory()
            if name == 'ours':
                variant = subject.ours(args.fast)
            else:
                variant = subject.plain(0, alone=name != 'plain loop')
            for _ in range(3):
                variant.step()
            peaks.append(memory.peak(variant))
            del variant
        found[name] = dict(
            batch_sizes=sizes, peak_bytes=peaks, bytes_per_image=(peaks[1] - peaks[0]) / small
        )
    return found


def show(points: dict) -> None:
    """A table."""
    rows = []
    for axis, values in points.items():
        for point in values:
            seconds = spread([1e3 * s for s in point['step_seconds']])
            rates = spread(point['images_per_second'])
            rows.append(
                [AXES[axis], point['value'], seconds, rates, f'{point["peak_bytes"] / 1e6:,.0f}']
            )
    show_table(
        'Medians (quartiles); images before transforms, of all processes; memory of one process',
        ['what changes', 'to', 'ms of a step', 'images/s', 'peak MB'],
        rows,
    )


def show_memory(memory: dict) -> None:
    """A table."""
    sizes = memory['ours']['batch_sizes']
    rows = [
        [name, f'{v["bytes_per_image"] / 1e6:.2f}']
        + [f'{peak / 1e6:,.0f}' for peak in v['peak_bytes']]
        for name, v in memory.items()
    ]
    header = ['training', 'MB an image', *(f'peak MB of {size}' for size in sizes)]
    show_table('Memory of a step', header, rows, names=1)


def draw(report: dict) -> bytes:
    """Time and memory by each of them; a PNG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(12, 5.6), dpi=160, layout='constrained')
    panels = figure.subplots(2, len(AXES), sharex='col')
    for column, (axis, said) in enumerate(AXES.items()):
        points = sorted(report['axes'][axis], key=lambda point: point['value'])
        x = [point['value'] for point in points]
        upper, lower = panels[:, column]
        low, seconds, high = zip(*(point['step_seconds'] for point in points), strict=True)
        upper.plot(x, seconds, 'o-', color='#0072B2')
        upper.fill_between(x, low, high, color='#0072B2', alpha=0.2, linewidth=0)
        lower.plot(x, [point['peak_bytes'] / 1e6 for point in points], 'o-', color='#D55E00')
        lower.set_xlabel(said)
        lower.set_xticks(x)
        for axes in (upper, lower):
            axes.set_ylim(0, 1.15 * axes.get_ylim()[1])
            axes.yaxis.set_major_locator(MaxNLocator(5))
            axes.grid(alpha=0.25)
            axes.spines[['top', 'right']].set_visible(False)
    panels[0, 0].set_ylabel('seconds of a step')
    panels[1, 0].set_ylabel('peak memory (MB)')
    return to_png(figure)


if __name__ == '__main__':
    run_tool(main)

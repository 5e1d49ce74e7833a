"""How the benchmarks measure what trains, and how they show what they found."""

import argparse
import contextlib
import io
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from hsakd.utils.cli import check_out_file, positive_number
from hsakd.utils.errors import UserError

PHASES = ('data', 'teacher', 'student forward', 'backward', 'optimiser', 'other')
#: What is measured by default.
PAIRS = (
    'wrn-40-2_wrn-16-2',
    'resnet56_resnet20',
    'resnet32x4_shufflenet-v2',
    'teacher_wrn-40-2',
    'online_wrn-40-2',
    'resnet34_resnet18',
)
#: FLOP/s in bfloat16 without sparsity, by a part of the name of the GPU.
BF16_PEAKS = {
    'H100 PCIe': 756e12,
    'H100 NVL': 835e12,
    'H100': 989e12,
    'H200': 989e12,
    'A100': 312e12,
}
#: Of plain, exact, fast: the palette of Okabe and Ito, for all colour vision.
COLOURS = dict(plain='#777777', exact='#0072B2', fast='#D55E00')
PHASE_COLOURS = ('#F0E442', '#CC79A7', '#56B4E9', '#0072B2', '#009E73', '#BBBBBB')


@dataclass
class Variant:
    """One way to train, with its own weights.

    Attributes:
        batches: Without an end.
        train: Trains on a batch and returns the loss before the step, a number or a scalar.
        networks: Those that learn.
        teacher: The fixed one.
        optimizer: Of ``networks``.
        teacher_logits: Owner and name of what is called for the teacher's logits.
    """

    batches: Iterator
    train: Callable[[object], float | Tensor]
    networks: Sequence[nn.Module]
    teacher: nn.Module | None
    optimizer: torch.optim.Optimizer
    teacher_logits: tuple[object, str] | None = None

    def step(self) -> float | Tensor:
        """Take a batch and train on it."""
        return self.train(next(self.batches))


def synchronise() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(step: Callable[[], object], times: int = 1) -> float:
    """Mean seconds of a step."""
    start = time.perf_counter()
    for _ in range(times):
        step()
    synchronise()
    return (time.perf_counter() - start) / times


def interleaved(
    steps: Mapping[str, Callable[[], object]], rounds: int, times: int
) -> dict[str, list[float]]:
    """Seconds of each step in each round, in which every one has its turn.

    Args:
        steps: By name.
        rounds: How many.
        times: Steps in a turn, whose mean counts: on a GPU more than one, so that the CPU can run
            ahead as in training.
    """
    seconds = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            seconds[name].append(seconds_of(step, times))
    return seconds


def quartiles(values: Iterable[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    return np.percentile(list(values), [25, 50, 75]).tolist()


def ratios(reference: Sequence[float], seconds: Sequence[float]) -> list[float]:
    """Quartiles of how many times as fast as the reference, round by round."""
    return quartiles(r / s for r, s in zip(reference, seconds, strict=True))


def phases(variant: Variant, steps: int) -> dict[str, list[float]]:
    """Seconds of each phase, by step, from timers around the calls.

    On a GPU each call is waited for, so that the sum is longer than a step is without timers.
    What is 'other' is all the rest: rotation, losses, accuracies.
    """
    seconds = dict.fromkeys(PHASES, 0.0)

    @contextlib.contextmanager
    def timed(owner: object, name: str, phase: str) -> Iterator[None]:
        call = getattr(owner, name)
        own = name in vars(owner)

        def measured(*args, **kwargs):
            synchronise()
            start = time.perf_counter()
            result = call(*args, **kwargs)
            synchronise()
            seconds[phase] += time.perf_counter() - start
            return result

        setattr(owner, name, measured)
        try:
            yield
        finally:
            setattr(owner, name, call) if own else delattr(owner, name)

    calls = [
        (torch.Tensor, 'backward', 'backward'),
        (variant.optimizer, 'step', 'optimiser'),
        (variant.optimizer, 'zero_grad', 'optimiser'),
        *((network, 'logits', 'student forward') for network in variant.networks),
    ]
    if variant.teacher is not None:
        calls.append((*variant.teacher_logits, 'teacher'))
    found = {phase: [] for phase in PHASES}
    with contextlib.ExitStack() as stack:
        for call in calls:
            stack.enter_context(timed(*call))
        for _ in range(steps):
            seconds.update(dict.fromkeys(PHASES, 0.0))
            start = time.perf_counter()
            batch = next(variant.batches)
            synchronise()
            seconds['data'] = time.perf_counter() - start
            variant.train(batch)
            synchronise()
            seconds['other'] = time.perf_counter() - start - sum(seconds.values())
            for phase, value in seconds.items():
                found[phase].append(value)
    return found


def num_bytes(tensors: Iterable[object]) -> int:
    """In those of them that are tensors."""
    return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, Tensor))


def peak_bytes(variant: Variant) -> int:
    """The most that weights, optimiser and a step hold at any time, on the CPU.

    Every allocation and release by torch's allocator counts, those of compiled kernels too; the
    libraries' own scratch space does not. The first of the two steps is there for the gradients
    that the second one finds.
    """
    models = [*variant.networks, *([variant.teacher] if variant.teacher is not None else [])]
    if variant.teacher is not None:
        made_of_it = getattr(getattr(*variant.teacher_logits), 'prepared', None)
        models += [made_of_it] if made_of_it is not None else []
    state = variant.optimizer.state.values()
    held = num_bytes(t for model in models for t in (*model.parameters(), *model.buffers()))
    held += num_bytes(value for values in state for value in values.values())
    variant.optimizer.zero_grad()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as run:
        variant.step()
        variant.step()
    events = [e for e in run.profiler.kineto_results.events() if e.name() == '[memory]']
    events.sort(key=lambda event: event.start_ns())
    changes = np.cumsum([event.nbytes() for event in events])
    return held + int(changes.max())


class Memory:
    """Bytes that a variant holds at most; to be made before the variant is."""

    def __init__(self) -> None:
        self._before = 0
        if torch.cuda.is_available():
            # From here on: what CUDA graphs hold is allocated when they are recorded.
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()

    def peak(self, variant: Variant) -> int:
        """On a GPU all that was allocated since, its data too; else see :func:`peak_bytes`."""
        if not torch.cuda.is_available():
            return peak_bytes(variant)
        variant.step()
        variant.step()
        synchronise()
        return torch.cuda.max_memory_allocated() - self._before


def count_flops(variant: Variant) -> int:
    """Of a step, without data; a multiply-add is 2."""
    batch = next(variant.batches)
    with FlopCounterMode(display=False) as flops:
        variant.train(batch)
    return flops.get_total_flops()


def machine() -> dict:
    """What the figures depend on."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.is_file():
        named = [line for line in cpuinfo.read_text().splitlines() if line.startswith('model name')]
        name = named[0].split(':', 1)[1].strip() if named else name
    found = dict(
        cpu=name,
        capability=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        torch=torch.__version__,
    )
    if torch.cuda.is_available():
        found |= dict(gpu=torch.cuda.get_device_name(), cuda=torch.version.cuda)
        found |= dict(cudnn=torch.backends.cudnn.version())
    return found


def bf16_peak(given: float | None) -> float | None:
    """FLOP/s of the GPU: as given, or as known by its name; None without one."""
    if given or not torch.cuda.is_available():
        return given
    name = torch.cuda.get_device_name()
    return next((peak for part, peak in BF16_PEAKS.items() if part in name), None)


def add_pairs_option(parser: argparse.ArgumentParser) -> None:
    """What to measure."""
    parser.add_argument(
        '--pairs',
        nargs='+',
        default=list(PAIRS),
        metavar='PAIR',
        help='teacher_student, teacher_NETWORK, online_NETWORK, of configs/hsakd, or config files '
        f'({" ".join(PAIRS)})',
    )
    parser.add_argument(
        '--workers',
        type=lambda text: 0 if text == '0' else positive_number(text),
        metavar='N',
        help="of the plain loop's loader (2; on the CPU 0)",
    )


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Options of every benchmark: where, on what, and the files of the results."""
    from mmengine.config import DictAction

    add = parser.add_argument
    add('--device', choices=['cuda', 'cpu'], help='(a GPU if there is one)')
    add(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='override keys of the configs, as with tools/train.py',
    )
    add('--out', type=Path, metavar='FILE.json', help='all figures, not rounded')
    add('--plot', type=Path, metavar='FILE.png', help='a chart')
    add('--force', action='store_true', help='replace the files')


def check_common_options(args: argparse.Namespace) -> None:
    """See that there is such a device, and that the files can be written.

    Raises:
        UserError: One of them is not so.
    """
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise UserError("--device cuda: no GPU was found; accepted is 'cpu'")
    if args.device == 'cpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''  # before anything asks for GPUs
    for option in ('out', 'plot'):
        check_out_file(getattr(args, option), args.force, f'--{option}')


def run_pairs(
    args: argparse.Namespace,
    measure: Callable[[str, Path, argparse.Namespace], dict],
    show: Callable[[str, dict], None],
    draw: Callable[[dict], bytes],
) -> None:
    """Measure each of ``--pairs``, in a folder of its own, show it, and write the files."""
    check_common_options(args)
    from variants import find_config

    for name in args.pairs:
        find_config(name)
    found = machine()
    show_machine(found)
    pairs = {}
    for name in args.pairs:
        with tempfile.TemporaryDirectory() as folder:
            pairs[name] = measure(name, Path(folder), args)
        show(name, pairs[name])
    finish(args, dict(settings=settings(args), machine=found, pairs=pairs), draw)


def finish(args: argparse.Namespace, report: dict, draw: Callable[[dict], bytes]) -> None:
    """Write the files that were asked for."""
    from hsakd.utils.files import write_files

    files = {}
    if args.out:
        files[args.out] = json.dumps(report, indent=2).encode() + b'\n'
    if args.plot:
        files[args.plot] = draw(report)
    write_files(files, args.force)
    for path in files:
        print(path)


def settings(args: argparse.Namespace) -> dict:
    """The options, for the report."""
    return {k: v for k, v in vars(args).items() if k not in ('out', 'plot', 'force', 'worker')}


def show_machine(found: dict) -> None:
    """On one line."""
    print(', '.join(f'{key} {value}' for key, value in found.items()))


def show_table(
    title: str, header: Sequence[str], rows: Iterable[Sequence[object]], names: int = 2
) -> None:
    """Print one; the first columns are names, the others figures."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify='left')
    for index, text in enumerate(header):
        table.add_column(text, justify='left' if index < names else 'right', no_wrap=index < names)
    for row in rows:
        table.add_row(*map(str, row))
    Console(width=None if sys.stdout.isatty() else 150).print(table)


def spread(values: Sequence[float], digits: int = 1) -> str:
    """A median and its quartiles."""
    low, median, high = (f'{value:,.{digits}f}' for value in values)
    return f'{median} ({low}-{high})'


def to_png(figure) -> bytes:
    """A figure of matplotlib as a file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png')
    return buffer.getvalue()

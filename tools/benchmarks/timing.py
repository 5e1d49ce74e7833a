"""What the benchmarks have in common: trainings on made-up data, timing in turns, and reports."""

import argparse
import contextlib
import io
import itertools
import json
import os
import pickle
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image
from torch import nn

from hsakd.apis.running import build_runner, prepare_config
from hsakd.utils.cli import add_config_options, check_out_file, positive_number, runner_parser
from hsakd.utils.config_text import leaf_datasets
from hsakd.utils.errors import ConfigError, UserError
from hsakd.utils.files import write_files

_numbers = itertools.count()  # of runners; mmengine knows them by name


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every benchmark: how long, on what, and the files of the results."""
    add = parser.add_argument
    add('--steps', '--rounds', type=positive_number, default=15, help='turns of each row (15)')
    add('--workers', type=positive_number, metavar='W', help='of loaders (2; on the CPU none)')
    add('--device', choices=['cuda', 'cpu'], help='(a GPU if there is one)')
    add_config_options(parser, 'override keys of the configs, as with tools/train.py')
    parser.set_defaults(cfg_options={})
    add('--out', type=Path, metavar='FILE.json', help='all figures, not rounded')
    add('--plot', type=Path, metavar='FILE.png', help='a chart')
    add('--force', action='store_true', help='replace the files')


def run_benchmark(
    args: argparse.Namespace, measure: Callable[[Path], Iterable[Sequence]], header: Sequence[str]
) -> None:
    """Measure, print a table in Markdown and write the files that were asked for.

    Args:
        args: With the options of :func:`add_common_options`.
        measure: Gives rows of the table: two names, then quartiles or numbers (None: unknown). It
            gets a folder that is removed afterwards, and may not print.
        header: What the columns are.

    Raises:
        UserError: There is no such device, or a file cannot be written.
    """
    gpu = torch.cuda.is_available()
    UserError.check(gpu or args.device != 'cuda', '--device', 'cpu', 'cuda, and no GPU was found')
    if args.device == 'cpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''  # before anything asks for GPUs
    for option in ('out', 'plot'):
        check_out_file(getattr(args, option), args.force, f'--{option}')
    with (
        tempfile.TemporaryDirectory() as folder,
        open(os.devnull, 'w') as nowhere,
        contextlib.redirect_stdout(nowhere),  # the log of runs, which is made as in training
    ):
        rows = list(measure(Path(folder)))

    found = machine()
    print(', '.join(f'{key} {value}' for key, value in found.items()), end='\n\n')
    lines = [header, ['---'] * len(header)]
    lines += [(first, second, *map(shown, figures)) for first, second, *figures in rows]
    for cells in lines:
        print('|', ' | '.join(cells), '|')
    files = {}
    if args.out:
        hidden = ('out', 'plot', 'force')
        settings = {key: value for key, value in vars(args).items() if key not in hidden}
        report = dict(settings=settings, machine=found)
        report['rows'] = [dict(zip(header, row, strict=True)) for row in rows]
        files[args.out] = json.dumps(report, indent=2).encode() + b'\n'
    if args.plot:
        files[args.plot] = chart(rows, header[2])
    write_files(files, args.force)


def shown(figure: float | Sequence[float] | None) -> str:
    """A number, whole if it is an int, or a median with its quartiles, short."""
    if figure is None:
        return '-'
    if isinstance(figure, int):
        return f'{figure:,}'
    low, median, high = figure if isinstance(figure, Sequence) else (None, figure, None)
    if 0 < median < 1e-3:
        return f'{median:.0e}'
    digits = 0 if median >= 1000 else 1 if median >= 10 else 2
    if low is None:
        return f'{median:,.{digits}f}'
    return f'{median:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})'


def chart(rows: Sequence[Sequence], label: str) -> bytes:
    """The first figure of each row, which is quartiles, as bars; a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.2 + 0.4 * len(rows)), dpi=160, layout='constrained')
    axes = figure.subplots()
    for position, (_, _, (low, median, high), *_) in enumerate(rows):
        axes.barh(position, median, color='#0072B2')
        axes.errorbar(median, position, xerr=[[median - low], [high - median]], color='black')
    axes.set_yticks(range(len(rows)), [f'{first}  {second}' for first, second, *_ in rows])
    axes.invert_yaxis()
    axes.set_xlabel(f'{label}; lines are quartiles')
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png')
    return buffer.getvalue()


def machine() -> dict[str, object]:
    """What the figures depend on."""
    cpuinfo = Path('/proc/cpuinfo')
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    found = dict(
        cpu=names[0] if names else platform.processor() or platform.machine(),
        capability=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        torch=torch.__version__,
    )
    if torch.cuda.is_available():
        found |= dict(gpu=torch.cuda.get_device_name(), cuda=torch.version.cuda)
        found |= dict(cudnn=torch.backends.cudnn.version())
    return found


def synchronize() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(step: Callable[[], object], times: int = 1, at_least: float = 0.0) -> float:
    """Mean seconds of a step, over so many ``times`` and ``at_least`` so many seconds."""
    synchronize()
    start, done = time.perf_counter(), 0
    while done < times or time.perf_counter() - start < at_least:
        step()
        done += 1
    synchronize()
    return (time.perf_counter() - start) / done


def interleaved(
    steps: Mapping[str, Callable[[], object]], rounds: int, at_least: float, untimed: int = 0
) -> dict[str, list[float]]:
    """Seconds of each step in each round, in which every one has its turn.

    Args:
        steps: By name.
        rounds: How many.
        at_least: Seconds of a turn, which has at least one step.
        untimed: Steps that come before each turn.
    """
    seconds = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            for _ in range(untimed):
                step()
            seconds[name].append(seconds_of(step, at_least=at_least))
    return seconds


def quartiles(values: Iterable[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    return np.percentile(list(values), [25, 50, 75]).tolist()


def ratios(reference: Sequence[float], seconds: Sequence[float]) -> list[float]:
    """Quartiles of how many times as fast as the reference, round by round."""
    return quartiles(r / s for r, s in zip(reference, seconds, strict=True))


def training_runner(
    path: str,
    folder: Path,
    options: Mapping[str, object],
    change: Callable[[Config], None] = lambda config: None,
) -> Runner:
    """Build a runner as tools/train.py does, for training without an end and without validation.

    Its work dir is in ``folder``; ``options`` are as ``--cfg-options``; ``change`` is done to the
    config last.
    """
    name = f'{Path(path).stem}-{next(_numbers)}'
    args = runner_parser('').parse_args([path, '--work-dir', str(folder / name)])
    args.cfg_options = dict(options)
    config = prepare_config(args)
    config.merge_from_dict({'experiment_name': name, 'log_processor.by_epoch': False})
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=10**9)
    for key in ('cfg', 'dataloader', 'evaluator'):
        config[f'val_{key}'] = config[f'test_{key}'] = None
    change(config)
    return build_runner(config, train=True)


def use_made_up_data(config: Config, path: str, folder: Path, count: int = 1024) -> Sequence:
    """Have a config train on made-up data in a folder, made once, and without checkpoints.

    Args:
        config: Is changed.
        path: Its file, for messages.
        folder: For the data.
        count: Images.

    Returns:
        What :func:`make_cifar` or :func:`make_imagenet` gives; nothing where the data was there.
    """
    dataset = next(leaf_datasets(config.train_dataloader.dataset))
    make = MAKE.get(dataset.type.split('.')[-1])
    where = f'config {path!r}: train_dataloader.dataset.type'
    ConfigError.check(make, where, ' or '.join(MAKE), repr(dataset.type))
    dataset.data_root = str(folder)
    for key in [key for key in config.model if key.endswith('_ckpt')]:
        config.model[key] = None
    config.load_from = None
    return () if folder.exists() else make(folder, count)


def take_weights(model: nn.Module, source: nn.Module) -> None:
    """Give a model the weights of one like it, those of frozen networks too."""
    # By name, since the state dict leaves out the teacher.
    weights = itertools.chain(source.named_parameters(), source.named_buffers())
    model.load_state_dict(
        {key: t for key, t in weights if not key.startswith('data_preprocessor.')}
    )


def endless(loader: Iterable) -> Iterator:
    """Batches of a loader, again and again."""
    while True:
        yield from loader


def make_cifar(folder: Path, count: int) -> tuple[np.ndarray, list[int]]:
    """Write CIFAR-100's training archive, of noise: its images [count, 32, 32, 3] and labels."""
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
    labels = rng.integers(0, 100, count).tolist()
    archive = folder / 'cifar-100-python' / 'train'
    archive.parent.mkdir(parents=True)
    archive.write_bytes(pickle.dumps(dict(data=data, fine_labels=labels), protocol=2))
    return np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels


def make_imagenet(folder: Path, count: int) -> tuple[list[Path], list[int]]:
    """Write files of ImageNet's size, with about as much detail: their paths and labels."""
    rng = np.random.default_rng(0)
    for name in ('train', 'meta'):
        (folder / name).mkdir(parents=True)
    paths = [folder / 'train' / f'{number}.JPEG' for number in range(count)]
    for path in paths:
        coarse = Image.fromarray(rng.integers(0, 256, (75, 100, 3), dtype=np.uint8))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)
    labels = [*rng.integers(0, 1000, count - 1).tolist(), 999]  # the last says how many there are
    lines = [f'{path.name} {label}' for path, label in zip(paths, labels, strict=True)]
    (folder / 'meta' / 'train.txt').write_text('\n'.join(lines))
    return paths, labels


MAKE = dict(CIFAR100=make_cifar, ImageNet=make_imagenet)

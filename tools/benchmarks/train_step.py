#!/usr/bin/env python
"""Time steps of training, ours and a plain loop's, in turns in one process, on made-up images.

A step takes a batch from its loader and trains on it. With --training, also whole training as
tools/train.py runs it, with data, hooks and log.
"""

import argparse
import contextlib
import copy
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

import torch  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.hooks import Hook  # noqa: E402
from mmengine.runner import Runner  # noqa: E402
from plain_loop import PlainLoop, plain_loader  # noqa: E402
from timing import (  # noqa: E402
    add_common_options,
    endless,
    interleaved,
    quartiles,
    ratios,
    run_benchmark,
    seconds_of,
    synchronize,
    take_weights,
    training_runner,
    use_made_up_data,
)

from hsakd.engine.acceleration import accelerate  # noqa: E402
from hsakd.models import Rotation  # noqa: E402
from hsakd.results.names import ConfigName  # noqa: E402
from hsakd.utils.cli import positive_number, run_tool  # noqa: E402
from hsakd.utils.errors import ConfigError, UserError  # noqa: E402
from hsakd.utils.networks import frozen_networks, trained_networks, unwrap  # noqa: E402

#: What is measured by default.
PAIRS = (
    'wrn-40-2_wrn-16-2',
    'resnet56_resnet20',
    'resnet32x4_shufflenet-v2',
    'teacher_wrn-40-2',
    'online_wrn-40-2',
    'resnet34_resnet18',
)
VARIANTS = ('plain', 'exact', 'fast', 'compile')
HEADER = ('pair', 'variant', 'x plain', 'images/s', 'ms outside of steps', 'first step s')
HEADER += ('loss differs by',)
METHODS = ('HSAKDOffline', 'HSAKDOnline', 'HSAKDTeacher')  # the plain loop's
WARM_UP = 3  # steps, of which the first compiles


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add(
        '--pairs',
        nargs='+',
        default=PAIRS,
        metavar='PAIR',
        help='teacher_student, teacher_NETWORK, online_NETWORK, of configs/hsakd, or config files '
        f'({" ".join(PAIRS)})',
    )
    add(
        '--variants',
        nargs='+',
        choices=VARIANTS[1:],
        default=['exact', 'fast'],
        help='beside the plain loop (exact fast); compile is fast without the operators of '
        'hsakd/ops',
    )
    add('--training', action='store_true', help='also train with data, hooks and log')
    add('--batch-size', type=positive_number, metavar='N', help='(64, on the CPU 16; at 224 less)')
    add_common_options(parser)
    return parser.parse_args()


def main() -> None:
    """Measure each pair, report."""
    args = parse_args()
    paths = {name: find_config(name) for name in args.pairs}

    def measure(folder: Path) -> Iterator[tuple]:
        for number, (name, path) in enumerate(paths.items()):
            yield from measure_pair(Path(name).stem, path, folder / str(number), args)

    run_benchmark(args, measure, HEADER)


def find_config(name: str) -> str:
    """The config file of a short name, or the path itself."""
    if Path(name).is_file():
        return name
    folder = ROOT / 'configs' / 'hsakd'
    for path in sorted(folder.glob('*.py')):
        found = ConfigName.parse(path.stem)
        short = '_'.join([found.method.removeprefix('hsakd-'), *found.networks])
        if name == short.removeprefix('offline_') and found.dataset in ('cifar100', 'imagenet'):
            return str(path)
    raise UserError.expected(
        '--pairs', f'config files, or names of {folder} as {", ".join(PAIRS)}', repr(name)
    )


@dataclass
class Variant:
    """One way to train, with its own weights."""

    train: Callable[[object], object]  # on a batch; gives the loss before the step
    batches: Iterator  # without an end
    first: object  # the batch that all variants have first

    def step(self) -> None:
        """Take a batch and train on it."""
        self.train(next(self.batches))


class Subject:
    """A config with made-up data in a folder, from which variants of its training are built."""

    def __init__(self, path: str, folder: Path, args: argparse.Namespace) -> None:
        gpu = torch.cuda.is_available()
        self.path, self.folder = path, folder
        self.batch_size = args.batch_size
        self.workers = args.workers or 2 * gpu
        self.options = {'train_dataloader.num_workers': self.workers, **args.cfg_options}
        self.model = None  # with the weights of all variants
        runner = self.runner()
        self.config, self.model = runner.cfg, unwrap(runner.model)
        self.model.init_weights()
        self.first = next(iter(runner.train_loop.dataloader))

    def runner(self, fast: bool = False, iterations: int = 10**9, interval: int = 50):
        """The runner of the config, for training in a mode, with a log at an interval."""
        gpu = torch.cuda.is_available()

        def change(config: Config) -> None:
            data = use_made_up_data(config, self.path, self.folder / 'data')
            if data:
                self.images, self.labels = data
            if not self.batch_size:  # fewer of ImageNet's size
                small = config.train_dataloader.dataset.type.endswith('CIFAR100')
                self.batch_size = (64 if gpu else 16) // (1 if small else 4)
            config.train_dataloader.batch_size = self.batch_size
            config.train_dataloader.persistent_workers = self.workers > 0
            config.default_hooks.logger.interval = interval
            config.train_cfg.max_iters = iterations
            config.fast = fast

        runner = training_runner(self.path, self.folder, self.options, change)
        if self.model:
            take_weights(unwrap(runner.model), self.model)
        return runner

    def ours(self, name: str) -> Variant:
        """Steps of a runner's model, without the runner."""
        runner = self.runner(fast=name != 'exact')
        accelerate(unwrap(runner.model), fast=name != 'exact')
        runner.model.train()
        return Variant(
            lambda batch: runner.model.train_step(batch, runner.optim_wrapper)['loss'],
            endless(runner.train_loop.dataloader),
            self.first,
        )

    def plain(self) -> Variant:
        """The plain loop; an error if the config asks for what it does not have."""
        # As one builds it: the runner has put its weights into the order of channels_last.
        model = copy.deepcopy(self.model).to(memory_format=torch.contiguous_format)
        networks = list(trained_networks(model).values())
        teacher = next(iter(frozen_networks(model).values()), None)
        kind, transforms = self.config.model.type, networks[0].transforms
        optimizer = self.config.optim_wrapper.optimizer
        for key, ok, expected, got in (
            ('model.type', kind in METHODS, ', '.join(METHODS), kind),
            ('transforms', isinstance(transforms, Rotation), 'Rotation', transforms),
            ('optim_wrapper.optimizer.type', optimizer.type == 'SGD', 'SGD', optimizer.type),
        ):
            ConfigError.check(ok, f'config {self.path!r}: {key}', expected, got)
        preprocessor = self.config.data_preprocessor
        mean, std = ([value / 255 for value in preprocessor[key]] for key in ('mean', 'std'))
        keys = ('lr', 'momentum', 'dampening', 'weight_decay', 'nesterov')
        loop = PlainLoop(
            networks,
            teacher,
            plain_loader(self.images, self.labels, mean, std, self.batch_size, self.workers),
            self.config.model.get('kd_loss', {}).get('temperature', 3.0),
            {key: optimizer[key] for key in keys if key in optimizer},
            next(model.parameters()).device,
        )
        first = model.data_preprocessor(copy.deepcopy(self.first), training=True)
        labels = torch.cat([sample.gt_label for sample in first['data_samples']])
        return Variant(lambda b: loop.step(*b), loop.batches(), (first['inputs'], labels))


def measure_pair(name: str, path: str, folder: Path, args: argparse.Namespace) -> Iterator[tuple]:
    """Rows of the table, see ``HEADER``; an error if the plain loop computes another loss."""
    subject = Subject(path, folder, args)
    variants, first_steps, losses = {}, {}, {}

    def first_step() -> None:
        losses[key] = torch.as_tensor(variant.train(variant.first)).item()

    for key in ('plain', *args.variants):
        with without_operators() if key == 'compile' else contextlib.nullcontext():
            variant = subject.plain() if key == 'plain' else subject.ours(key)
            first_steps[key] = seconds_of(first_step)
            for _ in range(WARM_UP - 1):
                variant.step()
        variants[key] = variant
    differences = {key: abs(loss / losses['plain'] - 1) for key, loss in losses.items()}
    where, same = f'config {path!r}: the first loss', f"{losses['plain']}, the plain loop's"
    for key, difference in differences.items():
        ConfigError.check(difference < 0.05, where, same, f'{losses[key]} ({key})')

    def figures(reference: list[float], seconds: list[float]) -> list:
        return [ratios(reference, seconds), quartiles(subject.batch_size / s for s in seconds)]

    steps = {key: variant.step for key, variant in variants.items()}
    seconds = interleaved(steps, args.steps, at_least=0.1 * torch.cuda.is_available())
    for key in variants:
        row = figures(seconds['plain'], seconds[key])
        yield name, key, *row, None, first_steps[key], differences[key]
    for key in [key for key in args.variants if args.training and key != 'compile']:
        block = 50 if torch.cuda.is_available() else 5
        turns = Turns(variants['plain'].step, block)
        length = block + 1  # iterations, with one line of the log
        runner = subject.runner(key == 'fast', (args.steps + 1) * length, length)
        runner.register_hook(turns)
        runner.train()
        outside = quartiles(1e3 * s for s in turns.outside[1:])
        row = figures(turns.plain_seconds[1:], turns.seconds[1:])
        yield name, f'{key}, training', *row, outside, None, None


def without_operators() -> contextlib.AbstractContextManager:
    """Where networks are compiled by torch alone."""
    return mock.patch('hsakd.ops.exchange_layers', lambda network, frozen=False: {})


class Turns(Hook):
    """Stops the time of blocks of iterations, with blocks of the plain loop between them.

    The first step of a block, which finds memory and caches as others left them, is not timed.
    What the runner spends outside of its model's steps is measured within its own iterations; on a
    GPU the host is then ahead of the model.

    Args:
        plain: The plain loop's step.
        block: Iterations that are timed.
    """

    priority = 'LOWEST'

    def __init__(self, plain: Callable[[], object], block: int) -> None:
        self.plain, self.block, self.in_steps = plain, block, 0.0
        self.seconds, self.plain_seconds, self.outside = [], [], []

    def before_train(self, runner: Runner) -> None:
        """Have the time of the model's steps taken."""
        train_step = runner.model.train_step

        def timed(*args, **kwargs) -> dict:
            start = time.perf_counter()
            outputs = train_step(*args, **kwargs)
            self.in_steps += time.perf_counter() - start
            return outputs

        runner.model.train_step = timed

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Begin or end a block."""
        done = (runner.iter + 1) % (self.block + 1)
        if done > 1:
            return
        synchronize()
        if done == 1:
            self.started, self.in_steps = time.perf_counter(), 0.0
            return
        self.seconds.append((time.perf_counter() - self.started) / self.block)
        self.outside.append(self.seconds[-1] - self.in_steps / self.block)
        self.plain()
        self.plain_seconds.append(seconds_of(self.plain, self.block))


if __name__ == '__main__':
    run_tool(main)

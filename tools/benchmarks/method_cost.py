#!/usr/bin/env python
"""What a method costs in training: time, memory and parameters, beside its student trained alone.

Of each config: the time of a step over that of a step of its student alone, both in turns in one
process, in the mode of the config; the peak of memory in three steps of a fresh process, with all
that it holds; and how many parameters learn beside the student's. Images are made up. Of networks
that learn online the first one is the student.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

import torch  # noqa: E402
from mmengine.config import Config  # noqa: E402
from timing import (  # noqa: E402
    add_common_options,
    endless,
    interleaved,
    quartiles,
    ratios,
    run_benchmark,
    take_weights,
    training_runner,
    use_made_up_data,
)
from torch import nn  # noqa: E402

from hsakd.engine.acceleration import accelerate  # noqa: E402
from hsakd.results.names import ConfigName  # noqa: E402
from hsakd.utils.cli import positive_number, run_tool  # noqa: E402
from hsakd.utils.config_text import leaf_datasets  # noqa: E402
from hsakd.utils.networks import network_configs, unwrap  # noqa: E402

IMAGES = {'CIFAR100': 50_000, 'ImageNet': 1024}  # memories of images have an entry for each
WARM_UP = 3  # steps


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('configs', nargs='+', metavar='CONFIG', help='config files')
    add('--batch-size', type=positive_number, default=64, metavar='N', help='(64)')
    add('--peak-of', nargs=2, metavar=('NUMBER', 'FOLDER'), help=argparse.SUPPRESS)
    add_common_options(parser)
    return parser.parse_args()


def main() -> None:
    """Measure each config and its student alone, report."""
    args = parse_args()
    trainings = find_trainings(args.configs)
    if args.peak_of:  # the fresh process
        number, folder = args.peak_of
        _, step = trainings[int(number)].build(Path(folder), args)
        print(peak_bytes(step))
        return

    def measure(folder: Path) -> Iterator[tuple]:
        built = [training.build(folder, args) for training in trainings]
        steps = {number: step for number, (_, step) in enumerate(built)}
        for step in steps.values():
            warm_up(step)
        seconds = interleaved(steps, args.steps, at_least=0.1 * torch.cuda.is_available())
        learning = [count_learning(model) for model, _ in built]
        for number, training in enumerate(trainings):
            alone = training.alone
            yield (
                *training.names,
                ratios(seconds[number], seconds[alone]),
                quartiles(1e3 * s for s in seconds[number]),
                peak_of(number, folder),
                learning[number] - learning[alone],
            )

    header = ('method', 'networks', 'time / alone', f'ms a step of {args.batch_size}')
    run_benchmark(args, measure, (*header, 'peak MB', 'parameters beside'))


class Training(NamedTuple):
    """A config, or what is left of it when its student is trained alone.

    Attributes:
        path: The config file.
        plain: Whether the student is trained alone.
        alone: Number of the training where it is.
        names: Of method and networks, as the table shows them.
    """

    path: str
    plain: bool
    alone: int
    names: tuple[str, str]

    def build(self, folder: Path, args: argparse.Namespace) -> tuple[nn.Module, Callable]:
        """The model, and a step of its training."""

        def change(config: Config) -> None:
            if self.plain:
                config.model = student_alone(config.model)
            kind = next(leaf_datasets(config.train_dataloader.dataset)).type.split('.')[-1]
            use_made_up_data(config, self.path, folder / kind, IMAGES.get(kind, 0))
            config.train_dataloader.batch_size = args.batch_size
            config.train_dataloader.num_workers = workers
            config.train_dataloader.persistent_workers = workers > 0

        workers = args.workers or 2 * torch.cuda.is_available()
        runner = training_runner(self.path, folder, args.cfg_options, change)
        model = unwrap(runner.model)
        model.init_weights()
        take_weights(model, model)  # as if the teacher's had been loaded
        accelerate(model, runner.cfg.get('fast', False))
        runner.model.train()
        batches = endless(runner.train_loop.dataloader)
        model.set_up = True  # the loop has made the memories of those that remember images

        def step() -> None:
            runner.model.train_step(next(batches), runner.optim_wrapper)

        return model, step


def find_trainings(paths: list[str]) -> list[Training]:
    """That of each student alone, followed by those of the configs with that student."""
    by_student = {}
    for path in paths:
        model = student_alone(Config.fromfile(path).model)
        by_student.setdefault(json.dumps(model, sort_keys=True), []).append(path)
    trainings = []
    for same in by_student.values():
        alone = len(trainings)
        names = [ConfigName.parse(Path(path).stem) for path in same]
        student = names[0].networks[-1] if names[0] else ''
        trainings.append(Training(same[0], True, alone, ('alone', student)))
        for path, name in zip(same, names, strict=True):
            shown = (name.method, ' -> '.join(name.networks)) if name else (Path(path).stem, '')
            trainings.append(Training(path, False, alone, shown))
    return trainings


def student_alone(model: dict) -> dict:
    """The plain network of a config's (first) network that learns."""
    network = next(iter(network_configs(model).values()))
    parts = {key: network[key] for key in ('backbone', 'neck', 'head')}
    return dict(type='BranchedClassifier', **parts)


def warm_up(step: Callable[[], object]) -> None:
    """First steps, in which frozen networks and memory are prepared."""
    for _ in range(WARM_UP):
        step()


def count_learning(model: nn.Module) -> int:
    """Parameters that learn."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def peak_of(number: int, folder: Path) -> float | None:
    """Peak memory in MB of a training in a process of its own; None where that is not told."""
    command = [sys.executable, __file__, *sys.argv[1:], '--peak-of', str(number), str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    peak = json.loads(done.stdout.splitlines()[-1])
    return None if peak is None else peak / 1e6


def peak_bytes(step: Callable[[], object]) -> int | None:
    """During first steps: what torch has on the GPU, or else resident memory, where Linux tells.

    Not ``getrusage``, which counts what the process was before it became this program.
    """
    gpu, proc = torch.cuda.is_available(), Path('/proc/self')
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    elif proc.is_dir():
        (proc / 'clear_refs').write_text('5')  # the peak so far, that of reading the data
    warm_up(step)
    if gpu:
        return torch.cuda.max_memory_allocated()
    lines = (proc / 'status').read_text().splitlines() if proc.is_dir() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith('VmHWM')), None)


if __name__ == '__main__':
    run_tool(main)

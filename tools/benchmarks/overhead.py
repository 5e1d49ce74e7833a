#!/usr/bin/env python
"""Measure what training costs beside the model: loop, hooks and log, in microseconds a step.

A tiny model trains on digits with the runtime of a real config. Loading, forward and backward pass
and the optimiser are left out. Steps are counted in which the host waits for numbers of the device.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hsakd.utils.cli import check_out_file, positive_number, run_tool  # noqa: E402

CONFIG = 'configs/hsakd/hsakd-offline_wrn-16-2_wrn-10-1_1xb64-80e_digits.py'
TERMS = 7  # of the loss, as many as a student with three branches and a head may have
WARM_UP = 10
#: What is not counted as overhead.
MODEL, STEP = 'model and optimiser', 'loop'

_READS = ('item', 'tolist', 'numpy', 'cpu', 'nonzero', 'is_nonzero', 'equal')
_READS += ('__bool__', '__float__', '__int__', '__index__')
_TO_HOST = {
    getattr(place, name) for place in (Tensor, torch) for name in _READS if hasattr(place, name)
}


class HostReads(TorchFunctionMode):
    """Counts calls by which the host reads a tensor, for which it waits for an accelerator."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += func in _TO_HOST
        return func(*args, **(kwargs or {}))


class Stopwatch:
    """Splits the time of calls among them: what a call spends in another one is the other's."""

    def __init__(self) -> None:
        self.now = Counter()
        self._inner = []

    def time(self, owner: object, method: str, part: str) -> None:
        """Count what a method takes as of a part."""
        original = getattr(owner, method)

        def timed(*args, **kwargs):
            self._inner.append(0.0)
            start = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                spent = time.perf_counter() - start
                self.now[part] += spent - self._inner.pop()
                if self._inner:
                    self._inner[-1] += spent

        setattr(owner, method, timed)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('config', nargs='?', default=CONFIG, help=f'whose runtime and schedule ({CONFIG})')
    add('--steps', type=positive_number, default=500, help='that are timed (500)')
    add('--history', type=int, default=0, metavar='N', help='steps in the log before (0)')
    add('--out', type=Path, metavar='FILE.json', help='all figures, not rounded')
    add('--force', action='store_true', help='replace the file')
    return parser.parse_args()


def main() -> None:
    """Time steps, count reads, report."""
    args = parse_args()
    check_out_file(args.out, args.force)
    from hsakd.engine.hooks import NonFiniteLossHook
    from hsakd.engine.hooks.non_finite_loss_hook import ON_ACCELERATOR
    from hsakd.utils.files import write_files

    watch, rows, reads = Stopwatch(), [], []

    def time_steps(runner) -> None:
        loop, model = runner.train_loop, runner.model
        for hook in runner.hooks:
            for method in ('before_train_iter', 'after_train_iter'):
                watch.time(hook, method, type(hook).__name__)
        watch.time(model, 'train_step', 'train_step')
        watch.time(model, 'parse_losses', 'parse_losses')
        for owner, method in (
            (model, 'forward'),
            (model.data_preprocessor, 'forward'),
            (runner.optim_wrapper, 'backward'),
            (runner.optim_wrapper.optimizer, 'step'),
            (runner.optim_wrapper.optimizer, 'zero_grad'),
        ):
            watch.time(owner, method, MODEL)
        watch.time(sys.modules['hsakd.engine.loops'], 'seed_all', 'seed_all')
        watch.time(loop, 'run_iter', STEP)
        run_iter = loop.run_iter

        def one_step(*step_args) -> None:
            watch.now.clear()
            run_iter(*step_args)
            rows.append(dict(watch.now))
            if len(rows) == 1 and args.history:
                lengthen_history(runner, args.history)

        loop.run_iter = one_step

    def count_reads(runner) -> None:
        loop = runner.train_loop
        for hook in runner.hooks:
            if isinstance(hook, NonFiniteLossHook):
                hook.interval = hook.interval or ON_ACCELERATOR
        run_iter = loop.run_iter

        def one_step(*step_args) -> None:
            with HostReads() as mode:
                run_iter(*step_args)
            reads.append(mode.count)

        loop.run_iter = one_step

    train(args.config, WARM_UP + args.steps, time_steps)
    del rows[:WARM_UP]
    train(args.config, 200, count_reads)
    device = torch.accelerator.current_accelerator(check_available=True)
    report = summarise(rows)
    report |= dict(
        reads={step: count for step, count in enumerate(reads, 1) if count},
        history=args.history,
        steps=args.steps,
        torch=torch.__version__,
        device=device.type if device else 'cpu',
    )
    print_report(report)
    if args.out:
        write_files({args.out: json.dumps(report, indent=2).encode() + b'\n'}, args.force)
        print(args.out)


def train(path: str, steps: int, prepare: Callable[[object], None]) -> None:
    """Train the tiny model, once the runner is prepared before its first step."""
    from mmengine.hooks import Hook
    from mmengine.model import BaseModel
    from torch import nn

    import hsakd  # noqa: F401  registers hsakd's types
    from hsakd.apis.running import load_config
    from hsakd.engine.runner import DistillationRunner
    from hsakd.registry import MODELS

    @MODELS.register_module(force=True)
    class Tiny(BaseModel):
        def __init__(self, **kwargs) -> None:
            super().__init__(kwargs['data_preprocessor'])
            self.linear = nn.Linear(3, TERMS)

        def forward(self, inputs, data_samples=None, mode='tensor'):
            out = self.linear(inputs.mean((2, 3))).sigmoid().mean(0)
            return {f'loss_{index}': term for index, term in enumerate(out.unbind())}

    class Prepare(Hook):
        priority = 'LOWEST'

        def before_train(self, runner) -> None:
            prepare(runner)

    config = load_config(path)
    loader, preprocessor = config.train_dataloader, dict(type='mmpretrain.ClsDataPreprocessor')
    times = -(-steps * 4 // 200)
    with tempfile.TemporaryDirectory() as folder:
        config.work_dir = folder
        config.model = dict(type='Tiny', data_preprocessor=preprocessor)
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
        config.test_cfg = config.test_dataloader = config.test_evaluator = None
        config.train_dataloader = dict(
            dataset=dict(type='RepeatDataset', times=times, dataset=loader.dataset),
            sampler=loader.sampler,
            collate_fn=dict(type='default_collate'),
            batch_size=4,
            num_workers=0,
        )
        config.train_cfg = dict(by_epoch=True, max_epochs=1)
        config.custom_hooks = [h for h in config.custom_hooks if h.type != 'SetupCheckHook']
        config.experiment_name = Path(folder).name
        config.log_level = 'WARNING'
        runner = DistillationRunner.from_cfg(config)
        runner.register_hook(Prepare())
        runner.train()


def lengthen_history(runner, steps: int) -> None:
    """As after so many steps."""
    for buffer in runner.message_hub.log_scalars.values():
        buffer._log_history = np.resize(buffer._log_history, steps)
        buffer._count_history = np.resize(buffer._count_history, steps)


def summarise(rows: list[dict[str, float]]) -> dict:
    """Microseconds by part: median and mean of steps; the mean has the steps that are logged."""
    parts = sorted({part for row in rows for part in row} - {MODEL})
    series = {part: [1e6 * row.get(part, 0.0) for row in rows] for part in parts}
    series['total'] = [sum(values) for values in zip(*series.values(), strict=True)]
    series[f'({MODEL})'] = [1e6 * row[MODEL] for row in rows]
    return dict(
        microseconds={
            part: dict(median=statistics.median(values), mean=statistics.fmean(values))
            for part, values in series.items()
        }
    )


def print_report(report: dict) -> None:
    """A table, largest first."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 100)
    table = Table(title=f'Microseconds a step, {report["device"]}', title_justify='left')
    table.add_column('part')
    table.add_column('median', justify='right')
    table.add_column('mean', justify='right')
    figures = report['microseconds']
    last = ['total', f'({MODEL})']
    parts = sorted(figures.keys() - set(last), key=lambda part: -figures[part]['mean'])
    for part in parts + last:
        table.add_row(part, *(f'{figures[part][kind]:,.1f}' for kind in ('median', 'mean')))
    console.print(table)
    reads = report['reads']
    steps = ', '.join(map(str, list(reads)[:12])) + (', ..' if len(reads) > 12 else '')
    console.print(f'The host reads tensors at {len(reads)} of 200 steps: {steps or "none"}')


if __name__ == '__main__':
    run_tool(main)

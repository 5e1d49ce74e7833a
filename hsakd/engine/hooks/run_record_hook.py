import math
import os
import platform
import subprocess
import time
from pathlib import Path

import mmengine
import torch
from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from hsakd.commands import IN_CLONE
from hsakd.registry import HOOKS
from hsakd.results.names import ConfigName
from hsakd.results.runs import RECORD, Run
from hsakd.results.settings import changed_settings, comparable_settings
from hsakd.utils.checks import as_number
from hsakd.utils.cli import command_line
from hsakd.utils.errors import UserError
from hsakd.version import __version__

from .checkpoint_hook import VALIDATED

#: In the state of a run: the metrics of the last validation.
_METRICS = 'last_metrics'
#: What settings of sessions that were resumed with other ones are called.
_BEFORE = ' (before it was resumed)'


@HOOKS.register_module()
class RunRecordHook(Hook):
    """Writes ``run.json``, see :class:`~hsakd.results.runs.Run`, to the work dir.

    It does so when training starts, after every validation, and at the end; until then the run
    stands there as unfinished. The record of another training, which a new one replaces in its work
    dir, is moved to the folder of its last session.
    """

    run: Run | None = None

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Begin the record, or go on with that of the run that is resumed."""
        config, folder = runner.cfg, Path(runner.work_dir)
        unit = 'epoch' if isinstance(runner.train_loop, EpochBasedTrainLoop) else 'iteration'
        name = Path(config.filename).stem if config.filename else ''
        processes, meant = get_world_size(), ConfigName.parse(name)
        settings = comparable_settings(config.to_dict())
        if meant and meant.gpus != processes:
            settings['GPUs'] = processes
        length = runner.max_epochs if unit == 'epoch' else runner.max_iters
        self.run = Run(folder, name, settings, runner.seed, processes, unit, length)
        self.run.command = command_line()
        self.run.versions = _versions()
        before = self._before(runner)
        if before and runner.iter:  # resumed
            for key in ('done', 'validated', 'metrics', 'best', 'sessions', 'seconds'):
                setattr(self.run, key, getattr(before, key))
            kept = {k: v for k, v in before.settings.items() if k.endswith(_BEFORE)}
            old = {k: v for k, v in before.settings.items() if k not in kept}
            changes = changed_settings(old, settings)
            settings |= kept | {f'{key}{_BEFORE}': value for key, value in changes.items()}
        elif before and before.session.is_dir():
            os.replace(folder / RECORD, before.session / RECORD)
        seen = runner.message_hub.runtime_info.get(VALIDATED, 0)
        if runner.iter and seen > self.run.validated:  # by the checkpoint, and not by the record
            self.run.validated = seen
            self.run.metrics = dict(runner.message_hub.runtime_info.get(_METRICS, {}))
        self.run.sessions.append(runner.timestamp)
        self._started = time.time() - self.run.seconds
        self._write(runner)

    @master_only
    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Record the metrics of a validation."""
        if self.run is None:  # not within training
            return
        self.run.validated = self._done(runner)
        numbers = {key: as_number(value) for key, value in (metrics or {}).items()}
        self.run.metrics = {key: number for key, number in numbers.items() if number is not None}
        runner.message_hub.update_info(_METRICS, self.run.metrics)
        for key, number in self.run.metrics.items():
            if not math.isnan(number):
                self.run.best[key] = max(number, self.run.best.get(key, number))
        self._write(runner)

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Record that the training came to its end."""
        ended = self._done(runner) >= self.run.length
        self.run.finished = ended or runner.train_loop.stop_training  # by EarlyStoppingHook
        self._write(runner)

    def _done(self, runner: Runner) -> int:
        return runner.epoch if self.run.unit == 'epoch' else runner.iter

    def _before(self, runner: Runner) -> Run | None:
        try:
            return Run.of(Path(runner.work_dir))
        except UserError as error:
            runner.logger.warning(f'{error}; it is replaced')
            return None

    def _write(self, runner: Runner) -> None:
        self.run.done = self._done(runner)
        self.run.seconds = round(time.time() - self._started, 1)
        try:
            self.run.write()
        except UserError as error:  # no reason to stop
            runner.logger.warning(str(error))


def _versions() -> dict[str, str]:
    device = f'{platform.machine()} CPU, torch threads: {torch.get_num_threads()}'
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    return {
        'hsakd': __version__ + _commit(),
        'torch': torch.__version__,
        'mmengine': mmengine.__version__,
        'Python': platform.python_version(),
        'device': device,
    }


def _commit() -> str:
    """Of a clone's code, as in ' (e0b7e9f-dirty)', dirty if it was changed; else empty."""
    command = ['git', 'describe', '--always', '--dirty', '--exclude=*']
    try:
        git = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:  # git is not installed
        return ''
    return f' ({git.stdout.strip()})' if IN_CLONE and git.returncode == 0 else ''

"""Trainings by tools/train.py, for tools that need several: done, under way, or left to do."""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DefaultScope

from hsakd.commands import IN_CLONE, tool_file, typed
from hsakd.engine.pretrained_backbone import (
    KEY,
    RANDOM,
    load_pretrained_backbone,
    prepare_pretrained_backbone,
)
from hsakd.results.names import CONFIGS
from hsakd.results.runs import RECORD, Run
from hsakd.results.settings import changed_settings, comparable_settings
from hsakd.utils.cli import ERROR_FILE, add_config_options
from hsakd.utils.config_text import parse_config
from hsakd.utils.errors import EX_PREEMPTED, ConfigError, UserError

from .running import load_config

#: Of a process whose output is read here.
_TO_US = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace')


@dataclass
class TrainingRun:
    """One training by tools/train.py.

    Attributes:
        config: Its config file.
        checkpoint: What it ends with, in its work dir.
        options: Its ``--cfg-options``, as typed.
        trust_checkpoint: Give it ``--trust-checkpoint``.
        seed: Of several runs that differ by it alone.
        needs: The runs that give the checkpoints which it names.
        name: What it is called, without the seed; by default as its config.
        is_start: Whether it is a first phase of a student, which is trained once a seed.
    """

    config: Path
    checkpoint: Path
    options: Sequence[str] = ()
    trust_checkpoint: bool = False
    seed: int | None = None
    needs: Sequence['TrainingRun'] = ()
    name: str = ''
    is_start: bool = False

    @property
    def label(self) -> str:
        """What the terminal calls it."""
        name = self.name or self.config.stem
        return name if self.seed is None else f'{name}, seed {self.seed}'

    @property
    def work_dir(self) -> Path:
        """The folder that the training writes to."""
        return self.checkpoint.parent


class ToolExit(SystemExit):
    """A tool that was called failed, or was asked to stop.

    Attributes:
        reason: The message that it ended with, or its status.
        asked: It, or this process, was asked to stop by a signal.
    """

    def __init__(self, status: int, reason: str, asked: bool) -> None:
        super().__init__(status)
        self.reason, self.asked = reason, asked


def load_with_options(config: Path, options: Sequence[str]) -> Config:
    """Read a config file and apply ``--cfg-options`` as typed.

    Raises:
        ConfigError: An option is not KEY=VALUE; or as :func:`~hsakd.apis.running.load_config`.
    """
    if not options:
        return load_config(str(config))
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_config_options(parser, '')
    try:
        parsed = parser.parse_args(['--cfg-options', *options])
    except argparse.ArgumentError as error:
        raise ConfigError(f'--cfg-options: {error.message}') from error
    return load_config(str(config), parsed.cfg_options)


def last_checkpoint(config: Config, work_dir: Path) -> Path:
    """The checkpoint that a training ends with.

    Raises:
        ConfigError: The config does not say how long it trains.
    """
    loop = config.get('train_cfg') or {}
    for key, name in {'max_epochs': 'epoch', 'max_iters': 'iter'}.items():
        if key in loop:
            return work_dir / f'{name}_{loop[key]}.pth'
    raise ConfigError.expected('train_cfg', 'max_epochs or max_iters in it', loop)


def is_done(run: TrainingRun) -> bool:
    """Whether the checkpoint is there, of a finished training of the settings asked for.

    Raises:
        UserError: What is there was trained with other settings.
    """
    there = Run.of(run.work_dir)
    if there is None:  # a checkpoint without logs was put there by somebody
        logged = any(run.work_dir.glob('*/vis_data/scalars.json'))
        UserError.check(not logged, str(run.work_dir), f'a training with its {RECORD}', 'none')
        return run.checkpoint.is_file()
    config = load_with_options(run.config, run.options).to_dict()
    wanted, found = comparable_settings(config), dict(there.settings)
    found.pop('GPUs', None)
    seed = (config.get('randomness') or {}).get('seed')
    if seed is not None:
        wanted['randomness.seed'], found['randomness.seed'] = seed, there.seed
    changes = changed_settings(found, wanted)
    if changes:
        shown = ', '.join(
            f'{k} {value!r} and not {wanted.get(k)!r}' for k, value in changes.items()
        )
        raise UserError.expected(
            str(run.work_dir),
            f'a training with the settings of {run.config} and the options, or no folder',
            f'one with {shown}',
        )
    return run.checkpoint.is_file() and there.finished


def train(run: TrainingRun, label: str, dry_run: bool = False) -> None:
    """Train, unless that was done; go on with what was under way.

    Args:
        run: What.
        label: What the terminal calls it.
        dry_run: Show the command, and run nothing.

    Raises:
        UserError: As :func:`is_done`; or the training ended without what makes it done.
        ToolExit: The training failed.
    """
    if is_done(run):
        print(f'{label}: done, {run.checkpoint}', flush=True)
        return
    resume = (run.work_dir / 'last_checkpoint').is_file()
    shipped = not IN_CLONE and run.config.resolve().is_relative_to(CONFIGS)
    config = run.config.stem if shipped else os.path.relpath(run.config)
    command = [config, '--work-dir', str(run.work_dir)]
    command += ['--resume'] if resume else []
    command += ['--trust-checkpoint'] if run.trust_checkpoint else []
    command += ['--cfg-options', *run.options] if run.options else []
    call('train', command, label, dry_run)
    done = dry_run or is_done(run)
    UserError.check(done, label, f'a config that saves {run.checkpoint}', 'none after its training')


def call(command: str, arguments: Sequence[str], label: str, dry_run: bool = False) -> None:
    """Show a command of hsakd, and run it.

    Ctrl-C and SIGTERM ask it to stop, which then saves what it does.

    Raises:
        ToolExit: It failed, with its status; or it came to its end when it was asked to stop.
    """
    print(f'{label}: {typed(command)} {shlex.join(arguments)}', flush=True)
    if dry_run:
        return
    with tempfile.NamedTemporaryFile('r') as message:
        environment = {**os.environ, ERROR_FILE: message.name}
        process = subprocess.Popen(
            [sys.executable, os.path.relpath(tool_file(command)), *arguments],
            env=environment,
            **({} if _prints_to_descriptor() else _TO_US),
        )
        status, asked = _wait(process)
        reason = message.read() or f'status {status}, see what it printed'
    again = 'the same command as before goes on from there'
    if asked and not status:  # too late for it, and in time for what would come next
        status = 128 + asked if asked == signal.SIGINT else EX_PREEMPTED
    asked = bool(asked) or status in (EX_PREEMPTED, 128 + signal.SIGINT)
    if status:
        again = again if asked else f'once the cause is gone, {again}'
        print(f'{label} stopped with status {status}; {again}', file=sys.stderr)
        raise ToolExit(status, reason, asked)


def _prints_to_descriptor() -> bool:
    """Whether a process that inherits standard output prints where this one does."""
    try:
        return os.path.sameopenfile(sys.stdout.fileno(), 1)
    except (AttributeError, OSError, ValueError):  # of a notebook, or other stand-ins
        return False


def _wait(process: subprocess.Popen) -> tuple[int, int]:
    """The status of a process that ended, and the signal that asked this one to stop, or 0.

    What it prints to this one is printed here.
    """
    received = []

    def hand_on(number: int, _: object) -> None:
        received.append(number)
        if number == signal.SIGTERM:  # a terminal sends Ctrl-C to the process, too
            process.send_signal(number)

    numbers = signal.SIGINT, signal.SIGTERM
    before = {number: signal.signal(number, hand_on) for number in numbers}
    try:
        for line in process.stdout or ():
            print(line, end='', flush=True)
        status = process.wait()
        return status if status >= 0 else 128 - status, received[-1] if received else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def try_backbone(run: TrainingRun, option: str, source: str) -> None:
    """Check that what the backbone of a detector starts from fits it.

    Args:
        run: Its training.
        option: The option that named the source, for messages.
        source: A checkpoint, or 'random'.

    Raises:
        UserError: It does not fit, or the detector cannot be built.
    """
    from mmdet.registry import MODELS

    config = load_with_options(run.config, run.options)
    read, accepted = config[KEY], 'a path without commas, quotes and brackets'
    ConfigError.check(read == source, f'{option}={source}', accepted, repr(read))
    prepare_pretrained_backbone(config)
    if source == RANDOM:
        return
    try:
        with DefaultScope.overwrite_default_scope('mmdet'):
            model = MODELS.build(config.model)
    except Exception as error:  # of anybody's classes
        what = f'{type(error).__name__}: {error}'
        raise ConfigError.expected('model', 'one that can be built', what) from error
    load_pretrained_backbone(model, source, config.get('pretrained_network'))


def tested_metrics(test_dir: Path, checkpoint: Path, config: Config) -> dict[str, float] | None:
    """What the last tools/test.py that wrote to ``test_dir`` measured.

    None unless that was this checkpoint, tested as ``config`` says.
    """
    files = sorted(test_dir.glob('*/*.json'))
    if not (files and checkpoint.is_file()):
        return None
    tested = parse_config((files[-1].parent / 'vis_data/config.py').read_text())
    settings = []
    for content in (tested, config):
        parts = {key: content.get(f'test_{key}') for key in ('dataloader', 'evaluator', 'cfg')}
        settings.append(comparable_settings({**parts, 'model': content.model.get('test_cfg')}))
    older = files[-1].stat().st_mtime < checkpoint.stat().st_mtime
    if older or settings[0] != settings[1]:
        return None
    found = json.loads(files[-1].read_text())
    return {key: value for key, value in found.items() if isinstance(value, int | float)}

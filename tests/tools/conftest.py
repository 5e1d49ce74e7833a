"""Tools run in this process, and checkpoints for them."""

import contextlib
import importlib.util
import io
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmpretrain.visualization import UniversalVisualizer
from torch import nn

from hsakd.utils.cli import ERROR_FILE
from tests.conftest import ROOT


def run_with_others(
    cwd: Path, *arguments: object, managed: tuple = (), status: int = 0
) -> tuple[str, list]:
    """Run a tool, and those that it calls, in this process: output, and their command lines.

    It has to end with ``status``, as those that it calls may with any.
    """
    commands, output = [], io.StringIO()

    def run(file: Path, *arguments: object) -> None:
        for kind in (MMLogger, MessageHub, UniversalVisualizer, *managed):  # named by the second
            kind._instance_dict.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, 'argv', [str(file), *map(str, arguments)])
            runpy.run_path(sys.argv[0], run_name='__main__')

    def status_of(file: Path, *arguments: object) -> int:
        try:
            run(file, *arguments)
        except SystemExit as exit_:
            return exit_.code or 0
        return 0

    def call(command: list[str], env: dict[str, str], **_: object) -> SimpleNamespace:
        commands.append([Path(command[1]).name, *command[2:]])
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(ERROR_FILE, env[ERROR_FILE])
            found = status_of(Path(command[1]).resolve(), *command[2:])
        return SimpleNamespace(wait=lambda: found, stdout=None)

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.chdir(cwd)
        patch.setattr('hsakd.apis.training_runs.subprocess', SimpleNamespace(Popen=call))
        assert status_of(ROOT / arguments[0], *arguments[1:]) == status
    return output.getvalue(), commands


@pytest.fixture
def tool() -> Callable[[str], Callable]:
    """``tool('predict')`` is ``main`` of tools/predict.py."""

    def load(name: str) -> Callable:
        path = ROOT / 'tools' / f'{name}.py'
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.main

    return load


@pytest.fixture
def save_training_checkpoint() -> Callable[..., None]:
    """Write what mmengine's runner writes, as far as a reader looks."""

    def save(
        path: Path, config: dict, model: nn.Module, classes: tuple[str, ...] | None = None
    ) -> None:
        meta = dict(
            cfg=Config(config).pretty_text, epoch=3, experiment_name='an-experiment_20260102_030405'
        )
        if classes:
            meta['dataset_meta'] = dict(classes=classes)
        parameter = next(model.parameters())
        momentum = dict(state={0: dict(momentum_buffer=torch.zeros_like(parameter))})
        torch.save(dict(meta=meta, state_dict=model.state_dict(), optimizer=momentum), path)

    return save

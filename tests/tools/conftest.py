"""Tools run in this process, and checkpoints for them."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn

from tests.conftest import ROOT


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

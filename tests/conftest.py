"""What several test files use: running tools as a user does, small networks, small data."""

import functools
import gc
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample
from mmpretrain.visualization import UniversalVisualizer
from PIL import Image

import hsakd
from tests.fork_server import ForkServer

ROOT = Path(__file__).resolve().parents[1]
hsakd.setup()


@pytest.fixture(autouse=True, scope='module')
def _no_scope_of_others():
    """For fixtures of a module, which come before that below; runs of tools leave one."""
    DefaultScope._instance_dict.clear()


@pytest.fixture(autouse=True)
def _scope():
    """Types without a prefix are hsakd's, as in a run."""
    with DefaultScope.overwrite_default_scope('hsakd'):
        yield


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def run_python(*args: object, cwd: Path | None = None, timeout: int = 300):
    """Run ``python tools/...``; stdout, stderr and returncode as text."""
    return subprocess.run(
        [sys.executable, ROOT / args[0], *map(str, args[1:])],
        cwd=cwd or ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        check=False,
    )


def run_tool(*args: object, cwd: Path | None = None, timeout: int = 300):
    """As :func:`run_python`, forked from a process that has imported what hsakd needs."""
    with tempfile.TemporaryDirectory() as folder:
        out, errors = Path(folder) / 'out', Path(folder) / 'err'
        process = _packages().start(*args, log=out, errors=errors, cwd=cwd or ROOT)
        status = process.wait(timeout)
        if status is None:
            process.kill()
            raise subprocess.TimeoutExpired(args, timeout, out.read_text(), errors.read_text())
        return subprocess.CompletedProcess(args, status, out.read_text(), errors.read_text())


@functools.cache
def _packages() -> ForkServer:
    return ForkServer('packages')  # ends when its standard input does, with this process


@pytest.fixture
def in_process(monkeypatch, capfd):
    """Run a tool in this process, for cases where only its messages matter: (status, stderr)."""
    import runpy

    gc.freeze()  # mmengine collects garbage for each data set, and modules are none
    # It formats the config for each checkpoint.
    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True))
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)

    def run(*args: object) -> tuple[int, str]:
        # mmengine names them by the second, in which two runs may start here.
        for managed in (MMLogger, MessageHub, UniversalVisualizer):
            managed._instance_dict.clear()
        monkeypatch.setattr(sys, 'argv', [str(ROOT / args[0]), *map(str, args[1:])])
        status = 0
        try:
            runpy.run_path(str(ROOT / args[0]), run_name='__main__')
        except SystemExit as exit_:
            status = exit_.code or 0
        return status, capfd.readouterr().err

    return run


def network_cfg(
    depth: int = 8, num_classes: int = 5, branches: bool | dict = True, width: int = 4, **kwargs
) -> dict:
    """Config of a small CIFAR ResNet."""
    cfg = dict(
        type='BranchedClassifier',
        backbone=dict(type='CIFARResNet', depth=depth, stem_channels=width, base_channels=width),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(
            type='mmpretrain.LinearClsHead',
            num_classes=num_classes,
            in_channels=4 * width,
            loss=dict(type='mmpretrain.CrossEntropyLoss'),
        ),
    )
    if branches:
        cfg['branches'] = dict(type='AuxiliaryBranches') if branches is True else branches
    return {**cfg, **kwargs}


def batch(num: int = 4, num_classes: int = 5, size: int = 16, dtype=torch.float32):
    """Images [num, 3, size, size] and data samples with labels."""
    inputs = torch.randn(num, 3, size, size, dtype=dtype)
    samples = [DataSample().set_gt_label(i % num_classes) for i in range(num)]
    return inputs, samples


def write_image_folder(root: Path, classes=('cat', 'dog'), per_class: int = 4, size: int = 32):
    """Folders of PNG images by class, each class with a color of its own."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            image = rng.integers(0, 100, (size, size, 3), dtype=np.uint8)
            image[..., label % 3] += 120
            Image.fromarray(image).save(root / name / f'{i}.png')
    return root

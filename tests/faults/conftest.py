"""Training runs that are started quickly, killed and resumed."""

import subprocess
from pathlib import Path

import pytest
import torch

from tests.fork_server import ForkServer


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.faults)


@pytest.fixture(scope='session')
def tools():
    """A :class:`ForkServer` for classification."""
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture(scope='session')
def detection_tools():
    """A :class:`ForkServer` for detection."""
    server = ForkServer('detection')
    yield server
    server.close()


@pytest.fixture
def small_disk(request, tmp_path):
    """A file system of the size that is the parameter."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', f'size={request.param}', 'none', folder]
    try:
        subprocess.run(command, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f'no file system can be mounted here: {error}')
    yield folder
    subprocess.run(['umount', '-l', folder], check=True)


def load(path: Path) -> dict:
    return torch.load(path, weights_only=False)


def last(work_dir: Path) -> Path:
    """The checkpoint that ``last_checkpoint`` names."""
    return Path((work_dir / 'last_checkpoint').read_text().strip())


def assert_same_training(one: Path, other: Path) -> None:
    """Two checkpoints hold the same state of training, to the bit."""
    one, other = load(one), load(other)
    for key in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
        _assert_equal(one.get(key), other.get(key), key)
    for key in ('epoch', 'iter', 'seed'):
        assert one['meta'][key] == other['meta'][key]
    best = [
        {k: v for k, v in run['message_hub']['runtime_info'].items() if 'best_score' in k}
        for run in (one, other)
    ]
    assert best[0] == best[1]


def _assert_equal(one: object, other: object, where: str) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            _assert_equal(one[key], other[key], f'{where}.{key}')
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            _assert_equal(a, b, f'{where}.{index}')
    else:
        assert one == other, where

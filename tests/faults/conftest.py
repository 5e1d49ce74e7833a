"""Training runs that are started quickly, killed and resumed."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

SERVER = Path(__file__).with_name('fork_server.py')


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == SERVER.parent:
            item.add_marker(pytest.mark.faults)


@dataclass
class Process:
    """A tool at work."""

    server: 'ForkServer'
    pid: int
    log: Path

    def wait(self, seconds: float = 120) -> int | None:
        """Its exit status, minus the signal that killed it; None if it still runs."""
        return self.server.ask(do='wait', pid=self.pid, seconds=seconds)['status']

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to it and its workers."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass

    @property
    def output(self) -> str:
        return self.log.read_text()


class ForkServer:
    def __init__(self, *what: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, SERVER, *what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, 'OMP_NUM_THREADS': '1'},
        )
        self._answer()

    def start(self, *argv: object, log: Path, **env: str) -> Process:
        """Run a tool."""
        pid = self.ask(do='start', argv=[str(arg) for arg in argv], env=env, log=str(log))['pid']
        return Process(self, pid, log)

    def run(self, *argv: object, log: Path, **env: str) -> Process:
        """Run a tool to its end, which has to be a good one."""
        process = self.start(*argv, log=log, **env)
        assert process.wait() == 0, process.output
        return process

    def ask(self, **request) -> dict:
        self.process.stdin.write(json.dumps(request) + '\n')
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict:
        while True:
            line = self.process.stdout.readline()
            if line.startswith('{'):
                return json.loads(line)
            assert line, 'the fork server ended'

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(20)


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



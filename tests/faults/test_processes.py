"""Two processes of a training, one of which dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.faults.conftest import assert_same_training, last

PLAIN = 'configs/baseline/wrn-10-1_1xb64-80e_digits.py'
OPTIONS = (
    '--cfg-options', 'train_cfg.max_epochs=30', 'train_cfg.val_interval=10',
    'val_dataloader.batch_size=800',
)  # fmt: skip


def start(work_dir, restarts=0):
    path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    return subprocess.Popen(
        [ROOT / 'tools/dist_train.sh', PLAIN, '2', '--work-dir', work_dir, *OPTIONS],
        env={**os.environ, 'PATH': path, 'MAX_RESTARTS': str(restarts)}, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def workers(work_dir):
    """Process numbers of the ranks that train there."""
    found = subprocess.run(
        ['pgrep', '-f', '--', f'-u .*tools/train.py.*--work-dir {work_dir}'],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return [int(pid) for pid in found.stdout.split()]


def kill_one(work_dir, process):
    """After the first checkpoint; the time of it."""
    while not (work_dir / 'last_checkpoint').exists():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    os.kill(max(workers(work_dir)), signal.SIGKILL)
    return time.monotonic()


@pytest.mark.slow
def test_a_killed_worker_is_replaced_exactly(tmp_path):
    whole = start(tmp_path / 'whole')
    output, _ = whole.communicate(timeout=200)
    assert whole.returncode == 0, output
    cut = start(tmp_path / 'cut', restarts=1)
    kill_one(tmp_path / 'cut', cut)
    output, _ = cut.communicate(timeout=200)
    assert cut.returncode == 0, output
    assert 'resumed epoch' in output
    assert_same_training(last(tmp_path / 'whole'), last(tmp_path / 'cut'))


@pytest.mark.slow
def test_without_restarts_all_end_within_a_minute(tmp_path):
    process = start(tmp_path / 'work')
    killed = kill_one(tmp_path / 'work', process)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    print(f'all ended {time.monotonic() - killed:.1f} s after the kill')
    assert not workers(tmp_path / 'work')

"""What is left of libraries that a compiler was stopped at writing."""

import os
import subprocess
import sys

from tests.conftest import ROOT

PLAIN = 'configs/baseline/wrn-10-1_1xb64-80e_digits.py'
OPTIONS = (
    '--fast', '--cfg-options', 'train_cfg.max_epochs=1', 'val_dataloader.batch_size=800',
    'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0',
    'train_dataloader.drop_last=True',
)  # fmt: skip


def test_a_library_that_was_cut_off_is_removed_and_training_goes_on(tmp_path):
    def train(name):
        return subprocess.run(
            [sys.executable, 'tools/train.py', PLAIN, '--work-dir', tmp_path / name, *OPTIONS],
            env={**os.environ, 'TORCHINDUCTOR_CACHE_DIR': str(tmp_path / 'cache')}, cwd=ROOT,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert train('first').returncode == 0
    library = max((tmp_path / 'cache').rglob('*.main.so'), key=lambda file: file.stat().st_size)
    library.write_bytes(b'')
    failed = train('again')
    assert failed.returncode == 1 and 'Traceback' not in failed.stderr
    assert f'{library}: expected a library' in failed.stderr and '--resume' in failed.stderr
    assert not library.exists()
    assert train('again').returncode == 0 and library.stat().st_size

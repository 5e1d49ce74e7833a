"""What a user has who installs a wheel: everything, in an empty folder outside of a clone."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT

PLAIN = 'wrn-10-1_1xb64-80e_digits'
SHORT = 'train_cfg.max_epochs=1'
MINE = f"""_base_ = 'hsakd::hsakd/hsakd-offline_wrn-16-2_{PLAIN}.py'
model = dict(loss_weights=dict(loss_cls=2.0))
"""
HUB = f"""
import hsakd
from mmengine.hub import get_config
print(get_config('hsakd::baseline/{PLAIN}.py').model.backbone.type, hsakd.__file__)
"""


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Run something of a wheel in ``run.folder``, which is empty at first: what it printed."""
    source, wheels, site, folder = (
        tmp_path_factory.mktemp(name) for name in ('source', 'wheels', 'site', 'empty')
    )
    # What is committed or would be: no build folder, no caches.
    listed = ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard']
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout
    pack = ['tar', '--ignore-failed-read', '--null', '-T', '-', '-cf', '-']
    archive = subprocess.run(pack, cwd=ROOT, input=files, capture_output=True, check=True).stdout
    subprocess.run(['tar', '-xf', '-'], cwd=source, input=archive, check=True)
    pip = [sys.executable, '-m', 'pip', '-q', '--disable-pip-version-check']
    build = ['wheel', '--no-deps', '--no-build-isolation', '-w', str(wheels), str(source)]
    subprocess.run([*pip, *build], check=True, capture_output=True, timeout=120)
    wheel = next(wheels.glob('*.whl'))
    subprocess.run([*pip, 'install', '--no-deps', '--target', str(site), str(wheel)], check=True)
    environment = {**os.environ, 'PYTHONPATH': str(site), 'OMP_NUM_THREADS': '1'}
    environment['PATH'] = f'{site / "bin"}:{environment["PATH"]}'

    def run(*command: object, status: int = 0) -> str:
        done = subprocess.run(
            [*map(str, command)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    run.folder, run.site = folder, site
    return run


def test_what_it_says(run):
    assert '\n  distill ' in run('hsakd', '--help')
    assert 'Contrastive Representation Distillation' in run('hsakd', 'list', 'methods', 'crd')
    assert PLAIN in run('hsakd', 'list', 'configs')
    assert f'near it: {PLAIN}' in run('hsakd', 'train', PLAIN.replace('80', '81'), status=1)
    metadata = next(run.site.glob('hsakd-*/METADATA')).read_text()
    assert '](docs/' not in metadata and 'Classifier: ' in metadata and 'Author: ' in metadata
    assert (run.site / 'hsakd/py.typed').exists()


def test_configs_by_mmengine(run):
    assert run(sys.executable, '-c', HUB).split() == [
        'WideResNet',
        str(run.site / 'hsakd/__init__.py'),
    ]


def test_distill_shows_commands_that_are_left(run):
    mine = run.folder / 'a/b/mine.py'  # with nobody else's configs beside its folder
    mine.parent.mkdir(parents=True)
    mine.write_text(MINE)
    out = run('hsakd', 'distill', 'a/b/mine.py', '--no-baseline', '--dry-run')
    lines = [line.split(': ', 1)[1] for line in out.splitlines()]
    teacher = 'hsakd-teacher_wrn-16-2_1xb64-80e_digits'
    assert lines == [
        f'hsakd train {name} --work-dir work_dirs/{Path(name).stem}'
        for name in (teacher, 'a/b/mine.py')
    ]
    assert f'hsakd train {PLAIN} ' in run(
        'hsakd', 'distill', f'hsakd-offline_wrn-16-2_{PLAIN}', '--dry-run'
    )


@pytest.mark.slow
def test_train_test_publish_and_predict(run):
    out = run('hsakd', 'distill', PLAIN, '--out', 'models/', '--cfg-options', SHORT)
    assert f'hsakd train {PLAIN} --work-dir' in out and 'hsakd predict IMAGES' in out
    run('hsakd', 'test', PLAIN, f'work_dirs/{PLAIN}/epoch_1.pth')
    (run.folder / 'images').mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(run.folder / 'images/black.png')
    model = next((run.folder / 'models').glob('*.pth'))
    out = run('hsakd', 'predict', 'images', '--model', model)
    assert 'black.png' in out and (run.folder / 'work_dirs/predict/black.png.png').is_file()

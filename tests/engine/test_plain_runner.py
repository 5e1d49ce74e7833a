"""Our configs under mmengine's own runner and mmpretrain's tools, and what these cannot give."""

import os
import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from hsakd.utils.errors import ConfigError
from tests.conftest import ROOT, write_image_folder

TOOLS = Path(find_spec('mmpretrain').origin).parent / '.mim/tools'
CLASSES = ('ant', 'cat', 'dog')
DIGITS = 'wrn-16-2_wrn-10-1_1xb64-80e_digits'
SHORT = {'train_cfg.max_epochs': 1, 'train_cfg.val_interval': 1}
OWN = SHORT | {
    'train_dataloader.batch_size': 6,
    **{
        f'{split}_dataloader.{key}': value
        for split in ('train', 'val', 'test')
        for key, value in (('num_workers', 0), ('persistent_workers', False))
    },
}
IMAGES = 'configs/baseline/resnet20_1xb64-240e_images32.py'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """With images of three classes where configs expect them."""
    folder = tmp_path_factory.mktemp('own')
    for split in ('train', 'test'):
        write_image_folder(folder / 'data/images' / split, CLASSES, per_class=4)
    return folder


def runner(config, work_dir, **options):
    config = Config.fromfile(ROOT / config)
    config.work_dir = str(work_dir)
    config.merge_from_dict(dict(options))
    return Runner.from_cfg(config)


def tool(name, *args, cwd):
    """A tool of mmpretrain's, as its users run it: nothing of ours is imported before."""
    return subprocess.run(
        [sys.executable, '-W', 'ignore', TOOLS / name, *map(str, args)],
        cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'Agg'},
    )  # fmt: skip


def options(settings, *more):
    return ['--cfg-options', *(f'{key}={value}' for key, value in settings.items()), *more]


def test_plain_teacher_and_student(tmp_path):
    teacher = runner(f'configs/hsakd/hsakd-teacher_{DIGITS.replace("wrn-10-1_", "")}.py',
                     tmp_path / 'teacher', **SHORT)  # fmt: skip
    teacher.train()
    offline = f'configs/hsakd/hsakd-offline_{DIGITS}.py'
    checkpoint = str(tmp_path / 'teacher/epoch_1.pth')
    student = runner(offline, tmp_path / 'student', **SHORT, **{'model.teacher_ckpt': checkpoint})
    student.train()
    weights = torch.load(checkpoint, weights_only=False)['state_dict']
    assert torch.equal(student.model.teacher.head.fc.weight, weights['head.fc.weight'])
    with pytest.raises(ConfigError, match='model.teacher_ckpt'):
        runner(offline, tmp_path / 'none', **SHORT, **{'model.teacher_ckpt': None}).train()


def test_no_loader_has_keys_that_torch_lacks():
    for path in (ROOT / 'configs').rglob('*.py'):
        if '_base_' in path.parts or 'detection' in path.parts:
            continue
        config = Config.fromfile(path)
        assert 'in_memory' not in config.train_dataloader, path


@pytest.mark.parametrize('kind', ['CSKD', 'DDGSD', 'PSKD'])
def test_methods_that_need_our_runner(kind, tmp_path):
    config = Config.fromfile(ROOT / 'configs/baseline/wrn-10-1_1xb64-80e_digits.py')
    config.merge_from_dict(dict(SHORT, work_dir=str(tmp_path)))
    config.model = dict(type=kind, student=config.model)
    with pytest.raises(ConfigError, match=f"model.type={kind}: expected hsakd's runner"):
        Runner.from_cfg(config).train()


def test_plain_classes_left_open(folder, tmp_path, monkeypatch):
    """A warning says that nobody asked the data; a teacher's number is its student's."""
    monkeypatch.chdir(folder)
    plain = runner(IMAGES, tmp_path / 'plain', **OWN, **{'model.backbone.depth': 8})
    plain.train()
    assert plain.model.head.num_classes == 1000
    log = next((tmp_path / 'plain').glob('*/*.log')).read_text()
    assert log.count('model.head.num_classes: 1000 where the config has None') == 1
    depths = {f'model.{key}.backbone.depth': 8 for key in ('student', 'teacher')}
    kd = 'configs/kd/kd_resnet56_resnet20_1xb64-240e_images32.py'
    three = Config.fromfile(ROOT / IMAGES)
    top_1 = {'val_evaluator.0.topk': (1,)}  # mmpretrain's metric refuses five of three
    pinned = {'model.backbone.depth': 8, 'model.head.num_classes': 3}
    three.merge_from_dict(OWN | top_1 | pinned)
    three.work_dir = str(tmp_path / 'three')
    Runner.from_cfg(three).train()
    given = {'model.teacher_ckpt': str(tmp_path / 'three/epoch_1.pth')}
    student = runner(kd, tmp_path / 'student', **OWN, **top_1, **depths, **given)
    student.train()
    assert student.model.student.head.fc.weight.shape == (3, 64)


@pytest.fixture(scope='module')
def trained(folder):
    """By mmpretrain's tools/train.py, which takes our runner: three classes, data in memory."""
    teacher = 'configs/hsakd/hsakd-teacher_resnet56_1xb64-240e_images32.py'
    given = options(OWN, 'in_memory=True', 'model.backbone.depth=8')
    done = tool('train.py', ROOT / teacher, '--work-dir', 'w', *given, cwd=folder)
    assert done.returncode == 0, done.stderr
    return ROOT / teacher, folder / 'w/epoch_1.pth'


def test_mmpretrains_train(trained):
    weights = torch.load(trained[1], weights_only=False)['state_dict']
    assert len(weights['head.fc.weight']) == 3 and len(weights['joint_heads.0.fc.weight']) == 12


def test_mmpretrains_confusion_matrix(trained, folder):
    config, checkpoint = trained
    more = options({'test_dataloader.num_workers': 0}, 'model.backbone.depth=8')
    args = (config, checkpoint, '--out', 'matrix.pkl', *more)
    done = tool('analysis_tools/confusion_matrix.py', *args, cwd=folder)
    assert done.returncode == 0, done.stderr
    matrix = pickle.loads((folder / 'matrix.pkl').read_bytes())
    assert tuple(matrix.shape) == (3, 3) and matrix.sum() == 12


def test_mmpretrains_test(trained, folder):
    config, checkpoint = trained
    more = options(OWN, 'model.backbone.depth=8')
    done = tool('test.py', config, checkpoint, '--work-dir', 't', *more, cwd=folder)
    assert done.returncode == 0 and 'accuracy/top1' in done.stdout, done.stderr


def test_mmpretrains_browse_dataset(folder):
    args = (ROOT / IMAGES, '--not-show', '-o', 'shown', '-n', 3, '-m', 'original')
    done = tool('visualization/browse_dataset.py', *args, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert any((folder / 'shown').iterdir())

"""Own images from a folder to a published student: no number of classes, and one data file."""

import json
import re
import shutil

import pytest
import torch

from tests.conftest import ROOT, run_tool, write_image_folder
from tests.tools.conftest import run_with_others

CLASSES = ('ant', 'bee', 'cat', 'dog', 'elk')
OFFLINE = ROOT / 'configs/hsakd/hsakd-offline_resnet56_resnet20_1xb64-240e_images32.py'
FROZEN = ROOT / 'configs/hsakd/hsakd-teacher-frozen_resnet56_1xb64-100e_images32.py'
BASELINE = ROOT / 'configs/baseline/resnet20_1xb64-240e_images32.py'
FILES = dict(
    re.findall(
        r'```python\n# ([\w.-]+\.py)\n(.*?)```', (ROOT / 'docs/get_started.md').read_text(), re.S
    )
)
TEACHER = 'hsakd-teacher_resnet56_1xb32-240e_pets'
STUDENT = 'hsakd-offline_resnet56_resnet20_1xb32-240e_pets'
PLAIN = 'resnet20_1xb32-240e_pets'
SHORT = ('train_cfg.max_epochs=1', 'train_cfg.val_interval=1')


def data(root, size=32):
    for split in ('train', 'test'):
        write_image_folder(root / split, CLASSES, per_class=2, size=size)


OPTIONS = ('--cfg-options', *SHORT, f'model.teacher_ckpt=work_dirs/{TEACHER}/epoch_1.pth',
           'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0')  # fmt: skip


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """A folder with the files of the page: one of data, and three configs that take it."""
    folder = tmp_path_factory.mktemp('project')
    (folder / 'configs').symlink_to(ROOT / 'configs')
    data(folder / 'pets')
    assert [*FILES] == ['my_data.py', *(f'{name}.py' for name in (PLAIN, TEACHER, STUDENT))]
    for name, text in FILES.items():
        (folder / name).write_text(text)
    run_with_others(folder, 'tools/distill.py', folder / f'{STUDENT}.py', *OPTIONS)
    return folder


def classes_of(checkpoint, name='head.fc.weight'):
    return len(torch.load(checkpoint, weights_only=False)['state_dict'][name])


def test_distill_follows_one_data_file(project):
    runs = project / 'work_dirs'
    assert classes_of(runs / TEACHER / 'epoch_1.pth') == 5
    assert classes_of(runs / STUDENT / 'epoch_1.pth', 'student.head.fc.weight') == 5
    assert classes_of(runs / PLAIN / 'epoch_1.pth') == 5
    (published,) = (project / 'models').glob('*.pth')
    shown = run_tool('tools/predict.py', project / 'pets/test/bee', '--model', published)
    assert shown.returncode == 0 and any(name in shown.stdout for name in CLASSES)


def test_what_is_done_stays_done(project):
    args = (f'{STUDENT}.py', '--dry-run', *OPTIONS)
    again = run_tool('tools/distill.py', *args, cwd=project)
    assert again.stdout.count(': done') == 3, again.stderr


def test_a_test_takes_the_classes_of_the_checkpoint(project, tmp_path):
    """Without the training data."""
    name = PLAIN
    shutil.copytree(project, tmp_path / 'p', ignore=shutil.ignore_patterns('train'))
    checkpoint = project / f'work_dirs/{name}/epoch_1.pth'
    args = (f'{name}.py', checkpoint, '--out', 'metrics.json', '--out-item', 'metrics')
    done = run_tool('tools/test.py', *args, cwd=tmp_path / 'p')
    assert done.returncode == 0, done.stderr
    assert 'accuracy/top5' in json.loads((tmp_path / 'p/metrics.json').read_text())
    shutil.rmtree(tmp_path / 'p/pets/test/bee')
    done = run_tool('tools/test.py', *args, cwd=tmp_path / 'p')
    assert done.returncode == 1 and 'with which' in done.stderr


@pytest.fixture
def train(tmp_path, in_process, monkeypatch):
    data(tmp_path / 'data/images')
    monkeypatch.chdir(tmp_path)

    def run(config, *options):
        short = (*SHORT, 'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0')
        short += ('train_dataloader.batch_size=10',)
        return in_process('tools/train.py', config, '--cfg-options', *short, *options)

    return run


def test_another_number_in_the_config_is_an_error(train):
    status, error = train(BASELINE, 'model.head.num_classes=4')
    assert status == 1 and 'expected 4 classes' in error
    status, error = train(OFFLINE, 'model.student.head.num_classes=4')
    assert status == 1 and 'model.teacher.head.num_classes: expected the same classes' in error


def test_classes_without_names(train, tmp_path):
    (tmp_path / 'list.txt').write_text('ant/0.png 0\nbee/0.png 1\n')
    status, error = train(BASELINE, f'train_dataloader.dataset.ann_file={tmp_path}/list.txt')
    assert status == 1 and 'num_classes' in error and 'names no classes' in error


def test_a_plain_network_as_teacher(train, tmp_path):
    """The message names the stage that gives it branches, which then trains."""
    assert train(ROOT / 'configs/baseline/resnet56_1xb64-240e_images32.py')[0] == 0
    plain = 'work_dirs/resnet56_1xb64-240e_images32/epoch_1.pth'
    status, error = train(OFFLINE, f'model.teacher_ckpt={plain}')
    assert status == 1 and 'hsakd-teacher-frozen' in error
    assert f'model.backbone_ckpt={plain!r}' in error
    assert train(FROZEN, f'model.backbone_ckpt={plain}')[0] == 0
    teacher = f'work_dirs/{FROZEN.stem}/epoch_1.pth'
    assert train(OFFLINE, f'model.teacher_ckpt={teacher}')[0] == 0


def test_a_frozen_network_of_other_classes(train, tmp_path):
    pinned = ('model.head.num_classes=5', 'model.backbone.depth=8')
    assert train(BASELINE, *pinned)[0] == 0
    weights = torch.load(f'work_dirs/{BASELINE.stem}/epoch_1.pth', weights_only=False)
    weights = weights['state_dict']
    weights['head.fc.weight'] = torch.zeros(1000, 64)
    weights['head.fc.bias'] = torch.zeros(1000)
    torch.save(weights, 'thousand.pth')
    options = ('model.backbone.depth=8', 'model.backbone_ckpt=thousand.pth')
    status, error = train(FROZEN, *options)
    assert status == 1 and '1000 classes' in error and "load_from='thousand.pth'" in error
    assert train(BASELINE, 'model.backbone.depth=8', 'load_from=thousand.pth')[0] == 0


@pytest.mark.parametrize('length', [240, 100])
def test_a_plan_of_a_plain_teacher(length, tmp_path):
    """The configs of own images lead from the plain network to the student."""
    data, teacher, student = {
        240: ('images32', 'resnet56', 'resnet20'), 100: ('images224', 'resnet34', 'resnet18')
    }[length]  # fmt: skip
    end = f'1xb64-{length}e_{data}'
    frozen = f'hsakd-teacher-frozen_{teacher}_1xb64-100e_{data}'
    config = ROOT / f'configs/hsakd/hsakd-offline_{teacher}_{student}_{end}.py'
    given = f'model.teacher_ckpt=work_dirs/{frozen}/epoch_100.pth'
    args = (config, '--dry-run', '--cfg-options', given)
    lines = run_tool('tools/distill.py', *args, cwd=tmp_path).stdout.splitlines()
    names = [line.split()[1].rstrip(':') for line in lines]
    assert names == [f'{teacher}_{end}', frozen, config.stem, f'{student}_{end}']


@pytest.mark.slow
def test_images_of_224(tmp_path, in_process, monkeypatch):
    data(tmp_path / 'data/images', size=240)
    monkeypatch.chdir(tmp_path)
    config = ROOT / 'configs/kd/kd_resnet34_resnet18_1xb64-100e_images224.py'
    short = (*SHORT, *(f'{s}_dataloader.{k}' for s in ('train', 'val')
                       for k in ('num_workers=0', 'batch_size=5')))  # fmt: skip
    plain = ROOT / 'configs/baseline/resnet34_1xb64-100e_images224.py'
    assert in_process('tools/train.py', plain, '--cfg-options', *short) == (0, '')
    teacher = f'model.teacher_ckpt=work_dirs/{plain.stem}/epoch_1.pth'
    status, error = in_process('tools/train.py', config, '--cfg-options', *short, teacher)
    assert status == 0, error


@pytest.mark.parametrize('name, words', [
    ('my_student', "expected a name such as METHOD_TEACHER_STUDENT_1xb64-240e_DATA.py, got 'my_st"),
    ('my_a_b_1xb64-240e_mine', 'expected b_1xb64-240e_mine.py beside it, got no such file'),
])  # fmt: skip
def test_a_baseline_that_is_not_found_is_said(name, words, tmp_path):
    folder = tmp_path / 'configs'
    folder.mkdir()
    (folder / f'{name}.py').write_text(f"_base_ = ['{OFFLINE}']\nmodel = dict(teacher_ckpt=None)\n")
    done = run_tool('tools/distill.py', folder / f'{name}.py', '--dry-run', cwd=tmp_path)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert words in line and 'no plain network of model.student' in line

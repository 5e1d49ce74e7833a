"""From a student's checkpoint to the accuracy of a new head, on STL-10 and Tiny-ImageNet."""

import json
import os
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config
from torch import nn

from hsakd.apis import load_classifier
from hsakd.registry import MODELS
from tests.conftest import ROOT, run_tool
from tests.datasets.test_stl10 import CLASSES, write_stl10
from tests.datasets.test_tiny_imagenet import WNIDS, write_tiny_imagenet

STUDENT = 'configs/hsakd/hsakd-offline_resnet56_resnet20_1xb64-240e_cifar100.py'
STL10 = 'configs/linear_eval/linear-eval_resnet20_1xb64-100e_stl10.py'
TINY = 'configs/linear_eval/linear-eval_resnet20_1xb64-100e_tiny-imagenet.py'


@pytest.fixture
def student(tmp_path, save_training_checkpoint):
    """What training a CIFAR-100 student leaves, and its weights."""
    config = Config.fromfile(ROOT / STUDENT)
    model = MODELS.build(config.model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    path = tmp_path / 'epoch_240.pth'
    save_training_checkpoint(path, config.to_dict(), model)
    return path, model.student.backbone.state_dict()


def options(checkpoint, data, *more):
    loaders = ('train_dataloader', 'val_dataloader', 'test_dataloader')
    return [
        '--cfg-options', f'model.backbone_ckpt={checkpoint}',
        *(f'{loader}.dataset.data_root={data}' for loader in loaders),
        *(f'{loader}.num_workers=0' for loader in loaders),
        *more,
    ]  # fmt: skip


def scalars(work_dir):
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in path.read_text().splitlines()]


def backbone(path):
    weights = torch.load(path, weights_only=False)['state_dict']
    return {k.removeprefix('backbone.'): v for k, v in weights.items() if 'backbone.' in k}


def test_from_a_published_student_to_accuracy_on_stl10(tmp_path, student, tool, in_process):
    tool('model_converters/publish_student')([str(student[0]), str(tmp_path / 'resnet20')])
    (published,) = tmp_path.glob('resnet20-*.pth')
    write_stl10(tmp_path / 'data', train=40, test=20)
    given = options(
        published, tmp_path / 'data', 'train_cfg.max_epochs=2', 'train_cfg.val_interval=2'
    )
    result = run_tool('tools/train.py', STL10, '--work-dir', tmp_path / 'work', *given)
    assert result.returncode == 0, result.stderr

    validation = scalars(tmp_path / 'work')[-1]
    assert validation['step'] == 2
    assert 0 <= validation['accuracy/top1'] <= validation['accuracy/top5'] <= 100
    trained = backbone(tmp_path / 'work' / 'epoch_2.pth')
    assert trained.keys() == student[1].keys()
    assert all(torch.equal(value, student[1][name]) for name, value in trained.items())

    # It is a checkpoint like any other.
    classifier = load_classifier(tmp_path / 'work' / 'epoch_2.pth')
    assert classifier._dataset_meta['classes'] == CLASSES
    given[given.index(f'model.backbone_ckpt={published}')] = 'model.backbone_ckpt=None'
    metrics = tmp_path / 'metrics.json'
    status, stderr = in_process(
        'tools/test.py', ROOT / STL10, tmp_path / 'work' / 'epoch_2.pth',
        '--work-dir', tmp_path / 'test', '--out', metrics, '--out-item', 'metrics', *given,
    )  # fmt: skip
    assert status == 0, stderr
    found = json.loads(metrics.read_text())
    assert found['accuracy/top1'] == pytest.approx(validation['accuracy/top1'])


def test_a_training_checkpoint_on_tiny_imagenet(tmp_path, student, in_process):
    write_tiny_imagenet(tmp_path / 'data', per_class=8)
    three = ('model.head.num_classes=3', 'val_evaluator.0.topk=(1,)', 'train_cfg.max_epochs=20')
    status, stderr = in_process(
        'tools/train.py', ROOT / TINY, '--work-dir', tmp_path / 'work',
        *options(student[0], tmp_path / 'data', *three),
    )  # fmt: skip
    assert status == 0, stderr
    # The classes have colors of their own, except for the gray image of each.
    assert scalars(tmp_path / 'work')[-1]['accuracy/top1'] > 60
    checkpoint = torch.load(tmp_path / 'work' / 'epoch_20.pth', weights_only=False)
    assert tuple(checkpoint['meta']['dataset_meta']['classes']) == WNIDS


@pytest.mark.slow
def test_two_processes_do_not_train_on_random_features(tmp_path):
    write_stl10(tmp_path / 'data')
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']
    result = subprocess.run(
        [*command, ROOT / 'tools/train.py', ROOT / STL10, '--launcher', 'pytorch',
         '--work-dir', tmp_path / 'work', *options('None', tmp_path / 'data')],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )  # fmt: skip
    assert result.returncode != 0
    assert 'error: model.backbone_ckpt' in result.stderr
    assert not list((tmp_path / 'work').glob('*.pth'))


@pytest.mark.parametrize(
    'checkpoint, named',
    [('None', 'None'), ('gone.pth', 'gone.pth'), ('other.pth', "'other.pth'")],
)
def test_bad_checkpoint(tmp_path, monkeypatch, in_process, checkpoint, named):
    write_stl10(tmp_path / 'data')
    other = Config.fromfile(ROOT / STUDENT).model.teacher
    torch.save(dict(state_dict=MODELS.build(other).state_dict()), tmp_path / 'other.pth')
    monkeypatch.chdir(tmp_path)
    status, stderr = in_process(
        'tools/train.py', ROOT / STL10, '--work-dir', tmp_path / 'work',
        *options(checkpoint, tmp_path / 'data'),
    )  # fmt: skip
    assert status == 1
    assert 'error: model.backbone_ckpt' in stderr and named in stderr and 'Traceback' not in stderr
    assert not list((tmp_path / 'work').glob('*.pth'))

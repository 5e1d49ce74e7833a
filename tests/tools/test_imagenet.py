"""ImageNet from torchvision's file to a tested student, as a user runs it, at 32x32."""

import json

import pytest
import torch

from tests.conftest import ROOT, run_tool
from tests.imagenet_files import save_torchvision, write_imagenet

PLAIN = 'configs/baseline/resnet34_8xb32-100e_imagenet.py'
TEACHER = 'configs/hsakd/hsakd-teacher_resnet34_8xb32-100e_imagenet.py'
FROZEN = 'configs/hsakd/hsakd-teacher-frozen_resnet34_8xb32-100e_imagenet.py'
STUDENT = 'configs/hsakd/hsakd-offline_resnet34_resnet18_8xb32-100e_imagenet.py'


def small(data, *heads):
    options = [f'{head}.num_classes=3' for head in heads]
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        options += [f'{loader}.{key}' for key in ('batch_size=6', 'num_workers=0')]
        options.append(f'{loader}.dataset.data_root={data}')
        if loader == 'train_dataloader':
            options.append(f'{loader}.dataset.pipeline.1.scale=32')
        else:
            options.append(f'{loader}.dataset.pipeline.1.scale=36')
            options.append(f'{loader}.dataset.pipeline.2.crop_size=32')
    options += [f'{kind}_evaluator.0.topk=(1,)' for kind in ('val', 'test')]
    return ['--cfg-options', *options, 'train_cfg.max_epochs=1']


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp('imagenet')
    write_imagenet(root / 'folders')
    write_imagenet(root / 'annotated', annotated=True)
    save_torchvision(root / 'resnet34.pth', 'resnet34')
    save_torchvision(root / 'resnet18.pth', 'resnet18')
    return root


@pytest.mark.slow
def test_from_torchvisions_file_to_a_tested_student(files, tmp_path, in_process):
    weights = files / 'resnet34.pth'
    result = run_tool(
        'tools/train.py', FROZEN, '--work-dir', tmp_path / 'teacher',
        *small(files / 'folders', 'model.head'), f'model.backbone_ckpt={weights}',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert 'Scaling the original LR by 0.0234375' in result.stdout + result.stderr
    teacher = torch.load(tmp_path / 'teacher' / 'epoch_1.pth', weights_only=False)
    theirs = torch.load(weights)
    assert torch.equal(teacher['state_dict']['backbone.bn1.running_var'], theirs['bn1.running_var'])
    assert torch.equal(teacher['state_dict']['head.fc.weight'], theirs['fc.weight'])
    assert teacher['optimizer']['param_groups'][0]['initial_lr'] == pytest.approx(0.1 * 6 / 256)
    assert teacher['meta']['dataset_meta']['classes'][0] == 'n01440764'

    options = small(files / 'annotated', 'model.student.head', 'model.teacher.head')
    result = run_tool(
        'tools/train.py', STUDENT, '--work-dir', tmp_path / 'student', *options,
        f'model.teacher_ckpt={tmp_path / "teacher" / "epoch_1.pth"}',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    scalars = next((tmp_path / 'student').glob('*/vis_data/scalars.json')).read_text()
    accuracy = json.loads(scalars.splitlines()[-1])['accuracy/top1']

    metrics = tmp_path / 'metrics.json'
    status, stderr = in_process(
        'tools/test.py', STUDENT, tmp_path / 'student' / 'epoch_1.pth', '--out', metrics,
        '--out-item', 'metrics', '--work-dir', tmp_path / 'test', *options,
    )  # fmt: skip
    assert status == 0, stderr
    assert json.loads(metrics.read_text())['accuracy/top1'] == pytest.approx(accuracy)


def test_torchvisions_file_is_tested_and_starts_a_joint_teacher(files, tmp_path, in_process):
    options = (*small(files / 'folders', 'model.head'), 'model.backbone.depth=18')
    status, stderr = in_process(
        'tools/test.py', PLAIN, files / 'resnet18.pth', '--work-dir', tmp_path,
        '--out', tmp_path / 'metrics.json', '--out-item', 'metrics', *options,
    )  # fmt: skip
    assert status == 0, stderr
    assert 0 <= json.loads((tmp_path / 'metrics.json').read_text())['accuracy/top1'] <= 100
    status, stderr = in_process(
        'tools/train.py', TEACHER, '--work-dir', tmp_path, *options,
        f'load_from={files / "resnet18.pth"}', 'optim_wrapper.optimizer.lr=0',
        'optim_wrapper.optimizer.momentum=0', 'optim_wrapper.optimizer.nesterov=False',
    )  # fmt: skip
    assert status == 0, stderr
    loaded = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['state_dict']
    for name, value in torch.load(files / 'resnet18.pth').items():
        if name.endswith('weight'):
            prefix = 'head.' if name.startswith('fc.') else 'backbone.'
            assert torch.equal(loaded[prefix + name], value)


@pytest.mark.parametrize(
    'config, options, words',
    [
        (FROZEN, ['model.backbone_ckpt={}/resnet34.pth'], 'model.backbone_ckpt'),
        (FROZEN, [], 'checkpoints/resnet34-b627a593.pth'),
        (TEACHER, ['load_from={}/resnet34.pth'], "load_from='{}/resnet34.pth'"),
        (TEACHER, ['load_from={}/gone.pth'], "load_from='{}/gone.pth'"),
        (TEACHER, ['model.head.num_classes=4'], 'train_dataloader.dataset: expected 4'),
    ],
)
def test_bad_input_is_named(config, options, words, files, tmp_path, monkeypatch, in_process):
    monkeypatch.chdir(tmp_path)
    status, stderr = in_process(
        'tools/train.py', ROOT / config, '--work-dir', tmp_path,
        *small(files / 'folders', 'model.head'), 'model.backbone.depth=18',
        *(option.format(files) for option in options),
    )  # fmt: skip
    assert status == 1 and words.format(files) in stderr, stderr
    assert stderr.count('error: ') == 1 and 'Traceback' not in stderr
    assert not list(tmp_path.glob('*.pth'))

"""Images of one channel, from the folder to the published student."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from mmengine.registry import DefaultScope
from PIL import Image

from hsakd.registry import MODELS
from tests.conftest import ROOT, run_tool

DATA = """
_base_ = ['{base}']
gray = [
    dict(type='LoadImage', color_type='grayscale'),
    dict(type='mmpretrain.Resize', scale=(28, 28), backend='pillow'),
    dict(type='mmpretrain.PackInputs'),
]
data_preprocessor = dict(mean=[110.0], std=[60.0])
train_dataloader = dict(
    batch_size=8, num_workers=0,
    dataset=dict(data_root='data/train', pipeline=gray),
)
val_dataloader = dict(
    batch_size=8, num_workers=0,
    dataset=dict(data_root='data/test', pipeline=gray),
)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=2, val_interval=2)
"""
NETWORK = 'dict(backbone=dict(depth=8, in_channels=1), head=dict(num_classes=2))'


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """Gray images of 28x28, a teacher and its student, trained; and a published student."""
    folder = tmp_path_factory.mktemp('gray')
    rng = np.random.default_rng(0)
    for split in ('train', 'test'):
        for name, level in (('dark', 60), ('light', 160)):
            (folder / 'data' / split / name).mkdir(parents=True)
            for i in range(8):
                pixels = rng.integers(level, level + 60, (28, 28), np.uint8)
                Image.fromarray(pixels).save(folder / 'data' / split / name / f'{i}.png')
    pair = f'model = dict(teacher={NETWORK}, student={NETWORK})\n'
    for name, base, model in (
        ('teacher', 'hsakd-teacher_resnet56_1xb64-240e_images32', f'model = {NETWORK}\n'),
        ('student', 'hsakd-offline_resnet56_resnet20_1xb64-240e_images32', pair),
    ):
        text = DATA.format(base=ROOT / f'configs/hsakd/{base}.py') + model
        (folder / f'{name}.py').write_text(text)
    run(folder, 'tools/train.py', 'teacher.py')
    teacher = 'model.teacher_ckpt=work_dirs/teacher/epoch_2.pth'
    run(folder, 'tools/train.py', 'student.py', '--cfg-options', teacher)
    checkpoint = 'work_dirs/student/epoch_2.pth'
    run(folder, 'tools/model_converters/publish_student.py', checkpoint, 'out/s', '--onnx')
    return folder


def run(folder, *args, status=0):
    done = run_tool(*args, cwd=folder)
    assert done.returncode == status, done.stderr
    assert 'Traceback' not in done.stderr
    return done.stdout + done.stderr


def test_onnx_takes_gray_pixels(project):
    (path,) = (project / 'out').glob('*.onnx')
    session = onnxruntime.InferenceSession(path)
    assert session.get_inputs()[0].shape[1:] == [1, 28, 28]
    assert '[N, 1, 28, 28], gray' in session.get_modelmeta().custom_metadata_map['input']
    for label, name in enumerate(('dark', 'light')):
        image = np.asarray(Image.open(project / f'data/test/{name}/0.png'), np.float32)
        (logits,) = session.run(None, {'images': image[None, None]})
        assert logits.argmax() == label


def test_predicts_gray_and_color_files(project):
    """By the checkpoint and by the published file, also with mmpretrain alone."""
    (published,) = (project / 'out').glob('*.pth')
    Image.open(project / 'data/test/dark/0.png').convert('RGB').save(project / 'color.png')
    for checkpoint in ('work_dirs/student/epoch_2.pth', published):
        output = run(project, 'tools/predict.py', 'data/test', '--model', checkpoint)
        found = [line.split() for line in output.splitlines() if '.png' in line]
        assert len(found) == 16 and all(str(Path(row[1]).parent) == row[3] for row in found)
        assert 'dark' in run(project, 'tools/predict.py', 'color.png', '--model', checkpoint)
    from mmpretrain import ImageClassificationInferencer

    with DefaultScope.overwrite_default_scope('mmpretrain'):
        inferencer = ImageClassificationInferencer(str(published.with_suffix('.py')))
        images = [str(project / f'data/test/{name}/0.png') for name in ('dark', 'light')]
        assert [found['pred_label'] for found in inferencer(images)] == [0, 1]


def test_other_tools(project):
    assert 'multiply-adds' in run(project, 'tools/analysis_tools/get_flops.py', 'student.py')
    run(project, 'tools/test.py', 'student.py', 'work_dirs/student/epoch_2.pth', '--out', 'm.json',
        '--out-item', 'metrics')  # fmt: skip
    assert json.loads((project / 'm.json').read_text())['accuracy/top1'] == 100
    run(project, 'tools/analysis_tools/report.py', 'work_dirs/student', '--out', 'report')
    run(
        project, 'tools/analysis_tools/plot_joint_distribution.py', 'student.py',
        'work_dirs/student/epoch_2.pth', 'data/test/dark/0.png', '--out', 'joint.png',
        '--cfg-options', 'model.teacher_ckpt=work_dirs/teacher/epoch_2.pth',
    )  # fmt: skip
    assert (project / 'joint.png').is_file()


def test_normalization_of_other_channels_is_named(project):
    options = ('--cfg-options', 'data_preprocessor.mean=[1,2,3]', 'data_preprocessor.std=[1,2,3]')
    error = run(project, 'tools/train.py', 'teacher.py', '--work-dir', 'w', *options, status=1)
    assert 'data_preprocessor.mean: expected one number, or one for each of the 1 channels' in error


@pytest.mark.parametrize(
    'backbone, size',
    [
        (dict(type='WideResNet', depth=10, widen_factor=1), 32),
        (dict(type='CIFARResNet', depth=8), 28),
        (dict(type='CIFARVGG'), 32),
        (dict(type='CIFARMobileNetV2'), 32),
        (dict(type='CIFARShuffleNetV1'), 40),
        (dict(type='CIFARShuffleNetV2'), 32),
    ],
)
@pytest.mark.parametrize('channels', [1, 4])
def test_networks_of_any_channels(backbone, size, channels):
    network = MODELS.build(
        dict(
            type='BranchedClassifier',
            backbone=dict(backbone, in_channels=channels),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(
                type='mmpretrain.LinearClsHead', num_classes=3, in_channels=_WIDTH[backbone['type']]
            ),
            branches=dict(type='AuxiliaryBranches'),
        )
    )
    network.init_weights()
    outputs = network.eval().outputs(torch.randn(2, channels, size, size))
    assert outputs.logits.shape == (2, 3)
    assert [c.shape for c in outputs.joint_logits] == [(2, 12)] * network.num_branches
    assert network.output_shapes(size).logits == (3,)


_WIDTH = dict(WideResNet=64, CIFARResNet=64, CIFARVGG=512, CIFARMobileNetV2=1280,
              CIFARShuffleNetV1=960, CIFARShuffleNetV2=1024)  # fmt: skip


def test_conv_branches_of_any_channels():
    backbone = dict(type='mmpretrain.ResNet', depth=18, in_channels=1, out_indices=(0, 1, 2, 3))
    branches = dict(type='ConvBranches', input_size=64)
    built = MODELS.build(dict(branches, backbone=MODELS.build(backbone)))
    assert len(built) == 4

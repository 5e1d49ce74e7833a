"""Detectors from start to end, as a user runs them: train, resume, test, predict."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config

import hsakd  # noqa: F401  offers the operators of mmcv
from hsakd.results.runs import find_runs
from tests.conftest import ROOT, run_python, run_tool
from tests.detection_files import write_coco, write_voc

# Small pictures, a narrow detector, and an optimizer that needs few steps.
COMMON = """
train_cfg = dict(max_epochs=2)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=0.002))
param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=10)]
pretrained_backbone = 'random'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(64, 48), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 48), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=(
            'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances',
        ),
    ),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        _delete_=True,
        type='RepeatDataset',
        times=4,
        dataset=dict(TYPE, TRAIN, pipeline=train_pipeline),
    ),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(TYPE, TEST, pipeline=test_pipeline, test_mode=True),
)
test_dataloader = val_dataloader
"""
VOC = """
_base_ = ['CONFIGS/bccd/faster-rcnn_resnet18-fpn_1xb4-6e_bccd.py']
model = dict(
    backbone=dict(base_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=32),
    rpn_head=dict(
        in_channels=32,
        feat_channels=32,
        anchor_generator=dict(scales=[4], ratios=[0.9, 1.1]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=32),
        bbox_head=dict(in_channels=32, fc_out_channels=64, num_classes=2),
    ),
    train_cfg=dict(rpn_proposal=dict(max_per_img=50), rcnn=dict(sampler=dict(num=32))),
    test_cfg=dict(rpn=dict(max_per_img=50)),
)
"""
COCO = """
_base_ = ['CONFIGS/coco/retinanet_resnet18-fpn_8xb2-12e_coco.py']
model = dict(
    backbone=dict(base_channels=16, frozen_stages=-1, norm_eval=False),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=32, start_level=0),
    bbox_head=dict(
        num_classes=2,
        in_channels=32,
        feat_channels=32,
        stacked_convs=1,
        anchor_generator=dict(strides=[4, 8, 16, 32, 64], scales_per_octave=1, ratios=[0.9, 1.1]),
    ),
)
val_evaluator = dict(ann_file='DATA/annotations/instances_val2017.json')
test_evaluator = val_evaluator
"""


def voc_config(folder, splits):
    write_voc(folder / 'data', splits)
    kind = "type='hsakd.VOCDataset', data_root='DATA', metainfo=dict(classes=('disc', 'square'))"
    split = "ann_file='ImageSets/Main/{}.txt'"
    return write_config(folder, VOC, kind, split.format('train'), split.format('test'))


def coco_config(folder, splits, classes=('disc', 'square')):
    write_coco(folder / 'data', splits)
    kind = f"type='hsakd.CocoDataset', data_root='DATA', metainfo=dict(classes={classes})"
    split = "ann_file='annotations/instances_{0}.json', data_prefix=dict(img='{0}/')"
    return write_config(folder, COCO, kind, split.format('train2017'), split.format('val2017'))


def write_config(folder, specific, type_, train, test):
    text = specific + COMMON.replace('TYPE', type_).replace('TRAIN', train).replace('TEST', test)
    text = text.replace('CONFIGS', str(ROOT / 'configs/detection'))
    path = folder / 'mini.py'
    path.write_text(text.replace('DATA', str(folder / 'data')))
    return path


@pytest.fixture(scope='module')
def voc(tmp_path_factory):
    """A config for a small VOC, and the work dir of a training that was interrupted once."""
    folder = tmp_path_factory.mktemp('voc')
    config = voc_config(folder, dict(train=60, test=20))
    untrained = folder / 'untrained'
    save_untrained(config, untrained)
    work_dir = folder / 'work'
    options = '--work-dir', work_dir, '--cfg-options', 'train_cfg.max_epochs=1'
    first = run_python('tools/train.py', config, *options)
    assert first.returncode == 0, first.stderr
    last = run_tool('tools/train.py', config, '--work-dir', work_dir, '--resume')
    assert last.returncode == 0, last.stderr
    return config, work_dir, first, last


def save_untrained(config, path):
    from mmdet.registry import MODELS
    from mmengine.registry import DefaultScope

    cfg = Config.fromfile(config)
    cfg.model.backbone.pop('init_cfg', None)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict()), path)


def average_precision(config, checkpoint, key, folder, *options):
    """As tools/test.py tells it."""
    result = run_tool(
        'tools/test.py', config, checkpoint, '--work-dir', folder / 'test',
        '--out', folder / 'metrics.json', '--out-item', 'metrics', *options,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return json.loads((folder / 'metrics.json').read_text())[key]


def test_voc_is_learned_in_two_sessions(voc, tmp_path):
    config, work_dir, first, last = voc
    assert '+----' in last.stdout + last.stderr  # the table of classes
    assert 'resumed epoch: 1' in last.stdout + last.stderr
    assert 'Warning' not in first.stderr and 'OneDL' not in first.stdout + first.stderr
    pictures = tmp_path / 'pictures'
    show = ('--show-dir', pictures)
    key = 'voc_area/AP50'
    trained = average_precision(config, work_dir / 'epoch_2.pth', key, tmp_path, *show)
    assert len(list(pictures.glob('*.jpg'))) == 20
    untrained = average_precision(config, config.parent / 'untrained', key, tmp_path)
    assert trained > 0.5 > 0.2 > untrained


def test_its_results_are_collected_in_percent(voc):
    (run,), left_out = find_runs([voc[1]])
    assert 50 < run.final('voc_area/mAP') <= 100 and not left_out
    assert run.settings['pretrained_backbone'] == 'random'
    assert not [key for key in run.settings if 'init_cfg' in key]


@pytest.mark.slow
def test_two_processes_test_as_one(voc, tmp_path):
    config, work_dir, *_ = voc

    def run(script, *args):
        result = subprocess.run(
            ['bash', ROOT / 'tools' / script, *map(str, args)],
            env={
                **os.environ,
                'PATH': f'{os.path.dirname(sys.executable)}:{os.environ["PATH"]}',
                'PORT': str(free_port()),
                'OMP_NUM_THREADS': '1',
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout + result.stderr

    metrics = []
    for processes in (1, 2):
        out = tmp_path / f'metrics{processes}.json'
        run(
            'dist_test.sh', config, work_dir / 'epoch_2.pth', processes,
            '--work-dir', tmp_path / 'test', '--out', out, '--out-item', 'metrics',
        )  # fmt: skip
        metrics.append(json.loads(out.read_text()))
    assert metrics[0] == metrics[1]


def free_port():
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        return found.getsockname()[1]


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    """A config for a small COCO, its data, and the work dir of a training."""
    folder = tmp_path_factory.mktemp('coco')
    config = coco_config(folder, dict(train2017=60, val2017=20))
    result = run_tool('tools/train.py', config, '--work-dir', folder / 'work')
    assert result.returncode == 0, result.stderr
    assert 'Average Precision' in result.stdout + result.stderr
    return config, folder / 'data', folder / 'work'


def test_coco_is_learned(coco, tmp_path):
    config, _, work_dir = coco
    assert average_precision(config, work_dir / 'epoch_2.pth', 'coco/bbox_mAP_50', tmp_path) > 0.5


def test_classes_in_another_order_than_the_metrics_file(tmp_path, in_process):
    config = coco_config(tmp_path, dict(train2017=4, val2017=4), ('square', 'disc'))
    status, error = in_process('tools/train.py', config, '--work-dir', tmp_path / 'work')
    assert status == 1 and 'Traceback' not in error
    assert 'val_evaluator.ann_file' in error and "['disc', 'square']" in error


def test_resumes_without_the_file_that_it_started_from(voc, tmp_path, in_process):
    config, work_dir, *_ = voc
    shutil.copytree(work_dir, tmp_path / 'work')
    (tmp_path / 'work/last_checkpoint').write_text(str(tmp_path / 'work/epoch_2.pth'))
    options = ('pretrained_backbone=moved.pth', 'model.data_preprocessor.mean=[1,2,3]')
    status, error = in_process(
        'tools/train.py', config, '--work-dir', tmp_path / 'work', '--resume',
        '--cfg-options', *options,
    )  # fmt: skip
    assert status == 0, error
    log = max((tmp_path / 'work').glob('*/*.log')).read_text()
    assert 'mean (123.675, 116.28, 103.53)' in log
    assert 'mean (1, 2, 3)' in log


def test_classes_in_another_order_than_in_training(voc, tmp_path, in_process):
    config, work_dir, *_ = voc
    status, error = in_process(
        'tools/test.py', config, work_dir / 'epoch_2.pth', '--work-dir', tmp_path / 'work',
        '--cfg-options', "test_dataloader.dataset.metainfo.classes=('square','disc')",
    )  # fmt: skip
    assert status == 1 and 'metainfo.classes' in error and "('disc', 'square')" in error


def test_skipped_images_do_not_count_as_missed(coco, tmp_path, in_process):
    config, data, work_dir = coco
    out = tmp_path / 'metrics.json'
    args = (
        'tools/test.py', config, work_dir / 'epoch_2.pth', '--work-dir', tmp_path / 'work',
        '--out', out, '--out-item', 'metrics',
    )  # fmt: skip
    for indices in (5, 1):
        status, error = in_process(
            *args, '--cfg-options', f'test_dataloader.dataset.indices={indices}'
        )
        assert status == 0, error
        assert json.loads(out.read_text())['coco/bbox_mAP_50'] > 0.9, indices


def test_metrics_file_of_another_split(coco, tmp_path, in_process):
    config, data, work_dir = coco
    other = data / 'annotations/instances_train2017.json'
    status, error = in_process(
        'tools/test.py', config, work_dir / 'epoch_2.pth', '--work-dir', tmp_path / 'work',
        '--cfg-options', f'test_evaluator.ann_file={other}',
    )  # fmt: skip
    assert status == 1 and 'test_evaluator.ann_file' in error and ' id ' in error


@pytest.mark.parametrize(
    'option, message',
    [
        ('pretrained_backbone=None', 'pretrained_backbone'),
        ('model.roi_head.bbox_head.num_classes=3', r'train_dataloader\.dataset.*3 .*2'),
    ],
)
def test_what_is_wrong_is_told_before_training(voc, tmp_path, in_process, option, message):
    status, error = in_process(
        'tools/train.py', voc[0], '--work-dir', tmp_path / 'work', '--cfg-options', option
    )
    assert status == 1 and 'Traceback' not in error and re.search(message, error)
    assert not list((tmp_path / 'work').glob('*.pth'))


def test_skips_bad_images_where_asked_to(tmp_path, in_process):
    config = voc_config(tmp_path, dict(train=6, test=2))
    (tmp_path / 'data/Annotations/000002.xml').write_text('<annotation>')
    args = ('tools/train.py', config, '--work-dir', tmp_path / 'work')
    status, error = in_process(*args)
    assert status == 1 and '000002.xml' in error
    status, error = in_process(
        *args, '--skip-bad-images', '--cfg-options', 'train_cfg.max_epochs=1',
        'train_dataloader.dataset.times=1',
    )  # fmt: skip
    logs = [log.read_text() for log in (tmp_path / 'work').glob('*/*.log')]
    assert status == 0 and any('skipped 1 of 6 images' in log for log in logs)

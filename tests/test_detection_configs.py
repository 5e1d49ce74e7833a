"""Every config in configs/detection builds, and its detector learns and predicts one step."""

import re

import pytest
import torch
from mmdet.registry import DATASETS, METRICS, MODELS, TRANSFORMS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import HOOKS, PARAM_SCHEDULERS, DefaultScope
from mmengine.structures import InstanceData

import hsakd  # noqa: F401  registers its types
from hsakd.utils.config_text import leaf_datasets
from tests.conftest import ROOT

CONFIGS = sorted(
    path.relative_to(ROOT / 'configs/detection')
    for path in (ROOT / 'configs/detection').rglob('*.py')
)


@pytest.fixture(autouse=True)
def _mmdet():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def load(path):
    return Config.fromfile(ROOT / 'configs/detection' / path)


def sample(num_classes, size):
    found = DetDataSample(
        metainfo=dict(
            img_shape=(size, size),
            ori_shape=(size, size),
            pad_shape=(size, size),
            batch_input_shape=(size, size),
            scale_factor=(1.0, 1.0),
        )
    )
    found.gt_instances = InstanceData(
        bboxes=torch.tensor([[8.0, 8, 60, 60], [4, 50, 40, 90]]),
        labels=torch.tensor([0, num_classes - 1]),
    )
    return found


def test_the_papers_transfer_experiments_are_there():
    names = {path.stem for path in CONFIGS}
    detectors = [f'{d}_resnet{n}-fpn_8xb2' for d in ('faster-rcnn', 'retinanet') for n in (18, 50)]
    assert {f'{detector}-4e_voc0712' for detector in detectors} <= names
    assert {f'{detector}-{e}e_coco' for detector in detectors for e in (12, 24)} <= names
    assert {f'faster-rcnn_resnet{n}-c4_8xb2-18000i_voc0712' for n in (18, 50)} <= names


@pytest.mark.parametrize('path', CONFIGS, ids=str)
def test_config(path):
    cfg = load(path)
    gpus, batch_size, length, unit = re.search(r'_(\d+)xb(\d+)-(\d+)([ei])_', path.stem).groups()
    assert cfg.train_dataloader.batch_size == int(batch_size)
    assert cfg.train_cfg['max_epochs' if unit == 'e' else 'max_iters'] == int(length)
    if 'auto_scale_lr' in cfg:
        assert cfg.auto_scale_lr.base_batch_size == int(gpus) * int(batch_size)

    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        for dataset in leaf_datasets(cfg[key].dataset):
            assert dataset.type.startswith('hsakd.') and DATASETS.get(dataset.type)
            for transform in dataset.pipeline:
                TRANSFORMS.build(transform)
    if 'coco' not in path.parts:  # COCO's metric opens its file
        prefixes = [METRICS.build(metric).prefix for metric in cfg.val_evaluator]
        more = {'coco'} if path.parts[0] == 'bccd' else set()
        assert {*prefixes} == {'voc_11points', 'voc_area'} | more
    for hook in cfg.custom_hooks:
        HOOKS.build(hook)
    settings = dict(cfg.optim_wrapper.optimizer)
    optimizer = getattr(torch.optim, settings.pop('type'))([torch.zeros(1)], **settings)
    for scheduler in cfg.param_scheduler:
        PARAM_SCHEDULERS.build(dict(scheduler, optimizer=optimizer))
    assert cfg.model.backbone.depth == int(re.search(r'resnet(\d+)', path.stem)[1])
    head = cfg.model.get('bbox_head') or cfg.model.roi_head.bbox_head
    assert head.num_classes == {'voc': 20, 'coco': 80, 'bccd': 3}[path.parts[0]]


# Those of COCO are the same as VOC's.
@pytest.mark.parametrize('path', [p for p in CONFIGS if 'coco' not in p.parts], ids=str)
def test_detector(path):
    cfg = load(path).model
    classes = (cfg.get('bbox_head') or cfg.roi_head.bbox_head).num_classes
    cfg.backbone.init_cfg = None
    if cfg.get('roi_head', {}).get('shared_head'):
        cfg.roi_head.shared_head.init_cfg = None
    if 'rcnn' in cfg.train_cfg:
        cfg.train_cfg.rpn_proposal.max_per_img = cfg.test_cfg.rpn.max_per_img = 16
        cfg.train_cfg.rcnn.sampler.num = 16
    model = MODELS.build(cfg)
    inputs, samples = torch.randn(1, 3, 96, 96), [sample(classes, 96)]
    total, _ = model.parse_losses(model.train()(inputs, samples, mode='loss'))
    total.backward()
    assert torch.isfinite(total)
    gradient = model.backbone.layer3[0].conv1.weight.grad
    assert gradient is None if cfg.backbone.get('frozen_stages', -1) >= 3 else gradient.any()
    with torch.no_grad():
        found = model.eval()(inputs, samples, mode='predict')[0].pred_instances
    assert found.bboxes.shape == (len(found.scores), 4)

"""Every config in configs/ builds, and its model trains one step on generated images."""

import math
import re
from functools import cache

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import PARAM_SCHEDULERS

from hsakd.datasets import STL10, ImageFolder, TinyImageNet
from hsakd.models.losses.loss_weights import LossWeights
from hsakd.registry import DATASETS, HOOKS, METRICS, MODELS, TRANSFORMS
from hsakd.utils.config_text import leaf_datasets
from hsakd.utils.networks import network_configs, trained_networks
from tests.conftest import ROOT

CONFIGS = sorted(
    path.relative_to(ROOT / 'configs')
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts and 'detection' not in path.parts
)
PAIRS = [
    ('wrn-40-2', 'wrn-16-2'),
    ('wrn-40-2', 'wrn-40-1'),
    ('resnet56', 'resnet20'),
    ('resnet32x4', 'resnet8x4'),
    ('vgg13', 'mobilenet-v2'),
    ('resnet50', 'mobilenet-v2'),
    ('wrn-40-2', 'shufflenet-v1'),
    ('resnet32x4', 'shufflenet-v2'),
]

ONLINE = (
    'wrn-40-2 wrn-40-1 resnet56 resnet32x4 vgg13 mobilenet-v2 shufflenet-v1 shufflenet-v2'.split()
)
#: Students of RepDistiller's table that are not of the paper's
REPDISTILLERS = ('vgg8', 'mobilenet-v2-s2')
# Models that were trained a step; what the others learn from is no part of them.
TRAINED = set()


def test_the_papers_experiments_are_all_there():
    names = {path.stem for path in CONFIGS}
    teachers = {teacher for teacher, _ in PAIRS}
    assert len(teachers) == 5
    expected = {f'hsakd-offline_{t}_{s}_1xb64-240e_cifar100' for t, s in PAIRS}
    expected |= {f'hsakd-teacher_{t}_1xb64-240e_cifar100' for t in teachers}
    expected |= {f'hsakd-teacher-frozen_{t}_1xb64-100e_cifar100' for t in teachers}
    plain = {f'{network}_1xb64-240e_cifar100' for pair in PAIRS for network in pair}
    assert len(plain) == 12
    online = {f'hsakd-online_{network}_1xb64-240e_cifar100' for network in ONLINE}
    imagenet = {
        'resnet18_8xb32-100e_imagenet',
        'resnet34_8xb32-100e_imagenet',
        'hsakd-teacher_resnet34_8xb32-100e_imagenet',
        'hsakd-teacher-frozen_resnet34_8xb32-100e_imagenet',
        'hsakd-offline_resnet34_resnet18_8xb32-100e_imagenet',
        'hsakd-online_resnet18_8xb32-100e_imagenet',
    }
    few_shot = {
        f'{method}_1xb64-240e_cifar100-{share}pct'
        for method in ('resnet20', 'hsakd-offline_resnet56_resnet20')
        for share in (25, 50, 75)
    }
    rivals = {
        f'{method}_{t}_{s}_1xb64-240e_cifar100'
        for method in 'kd fitnet at ab vid rkd sp cc crd sskd'.split()
        for t, s in PAIRS
    }
    transfer = {f'linear-eval_mobilenet-v2_1xb64-100e_{d}' for d in ('stl10', 'tiny-imagenet')}
    assert expected | plain | online | imagenet | few_shot | rivals | transfer <= names


def pipeline_of(dataset):
    """The transforms of a data set, also of a wrapped one."""
    while 'dataset' in dataset:
        dataset = dataset.dataset
    return dataset.pipeline


@cache
def load(path):
    return Config.fromfile(ROOT / 'configs' / path)


@pytest.mark.parametrize('path', CONFIGS, ids=str)
def test_config(path):
    cfg = load(path)
    gpus, batch_size, length, unit = re.search(r'_(\d+)xb(\d+)-(\d+)([ei])_', path.stem).groups()
    assert cfg.train_dataloader.batch_size == int(batch_size)
    assert cfg.auto_scale_lr.base_batch_size == int(gpus) * int(batch_size) or unit == 'i'
    assert cfg.train_cfg['max_epochs' if unit == 'e' else 'max_iters'] == int(length)

    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        assert DATASETS.get(cfg[key].dataset.type)
        for transform in pipeline_of(cfg[key].dataset):
            TRANSFORMS.build(transform)
    for metric in cfg.val_evaluator:
        METRICS.build(metric)
    for hook in cfg.custom_hooks:
        HOOKS.build(hook)
    optimizer = torch.optim.SGD([torch.zeros(1)], **without(cfg.optim_wrapper.optimizer, 'type'))
    several = isinstance(cfg.param_scheduler, list)
    for schedule in cfg.param_scheduler if several else [cfg.param_scheduler]:
        schedule = without(schedule, 'convert_to_iter_based')
        PARAM_SCHEDULERS.build(dict(schedule, optimizer=optimizer)).step()
    if (
        repr(model := without(cfg.model, 'teacher_ckpt', 'student_ckpt', 'backbone_ckpt'))
        not in TRAINED
    ):
        TRAINED.add(repr(model))
        any_size = cfg.model.type in (
            'BranchedClassifier',
            'HSAKDTeacher',
            'HSAKDOffline',
            'HSAKDOnline',
        )
        train_a_step(cfg, 8 if 'digits' in path.stem else 16 if any_size else 32)


@pytest.mark.parametrize('path', [p for p in CONFIGS if re.search(r'-\d+e_', p.stem)], ids=str)
def test_no_term_is_still_growing_after_a_third_of_the_training(path):
    cfg = load(path)
    kind = MODELS.get(cfg.model.type)
    if not hasattr(kind, 'default_weights'):
        return
    terms = {term.replace('*', '0'): weight for term, weight in kind.default_weights.items()}
    weights = LossWeights(cfg.model.get('loss_weights'), terms)
    for term in terms:
        third = math.ceil(cfg.train_cfg.max_epochs / 3)
        assert weights.of(term, third) == weights.of(term, 10**6), term


def without(config, *keys):
    return {key: value for key, value in config.items() if key not in keys}


def train_a_step(cfg, size):
    model = MODELS.build(cfg.model).train()
    first = [*trained_networks(model).values()][0]
    # Through the pipeline's last step, as a batch of the loader comes.
    pack = TRANSFORMS.build(pipeline_of(cfg.train_dataloader.dataset)[-1])
    images = np.random.default_rng(0).integers(0, 255, (2, size, size, 3), dtype=np.uint8)
    labels = [0, 1]
    if model.batch_sampler:  # four views of an image; one of each class twice, two at a time
        twice = cfg.model.type == 'MCL'
        images, labels = images.repeat(4, 0), [0, 0, 0, 0, 1, 1, 1, 1]
        images = images[2:6] if twice else images
        labels = labels[2:6] if twice else labels
    if model.remember:
        model.remember(torch.arange(40) % 4)
    samples = [
        pack(dict(img=img, gt_label=label, sample_idx=index))
        for index, (img, label) in enumerate(zip(images, labels, strict=True))
    ]
    data = model.data_preprocessor(pseudo_collate(samples), training=True)
    losses = model(**data, mode='loss')
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    score = model.eval()(**data, mode='predict')[0].pred_score
    assert score.shape == (first.head.num_classes,)


@pytest.mark.parametrize('path', CONFIGS, ids=str)
def test_images_are_normalized_by_what_the_data_set_says(path):
    cfg = load(path)
    kind = DATASETS.get(next(leaf_datasets(cfg.test_dataloader.dataset)).type)
    for fact in ('mean', 'std'):  # folders of anyone's images, and those of transfer, have none
        if expected := getattr(kind, fact, None):
            assert tuple(cfg.data_preprocessor[fact]) == expected
    classes = getattr(kind, 'METAINFO', {}).get('classes', ())
    for network in network_configs(cfg.model).values():
        assert network.head.num_classes == len(classes) or kind in (
            ImageFolder,
            STL10,
            TinyImageNet,
        )


@pytest.mark.parametrize('path', [p for p in CONFIGS if '240e_cifar100' in p.stem], ids=str)
def test_cifar_recipe(path):
    cfg = load(path)
    student = path.stem.split('_')[-3]
    small = student.startswith(('mobilenet', 'shufflenet'))
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD',
        lr=0.01 if small else 0.05,
        momentum=0.9,
        nesterov=path.parent.name
        not in ('nst', 'pkt', 'dkd', 'reviewkd', 'dist', 'ft', 'fsp', 'kdcl')
        and student not in REPDISTILLERS,
        weight_decay=5e-4,
    )
    assert cfg.param_scheduler.milestones == [150, 180, 210]
    assert cfg.train_dataloader.batch_size == 64

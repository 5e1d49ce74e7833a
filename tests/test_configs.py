"""Every config in configs/ builds, and its model trains one step on generated images."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from hsakd.registry import DATASETS, HOOKS, METRICS, MODELS, TRANSFORMS
from tests.conftest import ROOT, batch

CONFIGS = sorted(
    path.relative_to(ROOT / 'configs')
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
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


def test_the_papers_experiments_are_all_there():
    names = {path.stem for path in CONFIGS}
    teachers = {teacher for teacher, _ in PAIRS}
    assert len(teachers) == 5
    expected = {f'hsakd-offline_{t}_{s}_1xb64-240e_cifar100' for t, s in PAIRS}
    expected |= {f'hsakd-teacher_{t}_1xb64-240e_cifar100' for t in teachers}
    expected |= {f'hsakd-teacher-frozen_{t}_1xb64-100e_cifar100' for t in teachers}
    plain = {f'{network}_1xb64-240e_cifar100' for pair in PAIRS for network in pair}
    assert len(plain) == 12
    assert expected | plain <= names


@pytest.mark.parametrize('path', CONFIGS, ids=str)
def test_config(path):
    cfg = Config.fromfile(ROOT / 'configs' / path)
    loader = cfg.train_dataloader
    assert f'1xb{loader.batch_size}-' in path.stem
    length = f'{cfg.train_cfg.get("max_epochs")}e', f'{cfg.train_cfg.get("max_iters")}i'
    assert any(f'-{text}_' in path.stem for text in length)

    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        assert DATASETS.get(cfg[key].dataset.type)
        for transform in cfg[key].dataset.pipeline:
            TRANSFORMS.build(transform)
    for metric in cfg.val_evaluator:
        METRICS.build(metric)
    for hook in cfg.custom_hooks:
        HOOKS.build(hook)

    model = MODELS.build(cfg.model).train()
    network = getattr(model, 'student', model)
    size = 8 if 'digits' in path.stem else 32
    inputs, samples = batch(2, network.head.num_classes, size)
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad],
        **{k: v for k, v in cfg.optim_wrapper.optimizer.items() if k != 'type'},
    )
    scheduler = PARAM_SCHEDULERS.build(dict(cfg.param_scheduler, optimizer=optimizer))
    losses = model(inputs, samples, mode='loss')
    sum(losses.values()).backward()
    optimizer.step()
    scheduler.step()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert model.eval()(inputs, samples, mode='predict')[0].pred_score.shape == (
        network.head.num_classes,
    )


@pytest.mark.parametrize('path', [p for p in CONFIGS if '240e_cifar100' in p.stem], ids=str)
def test_cifar_recipe(path):
    cfg = Config.fromfile(ROOT / 'configs' / path)
    student = path.stem.split('_')[-3]
    small = student.startswith(('mobilenet', 'shufflenet'))
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD',
        lr=0.01 if small else 0.05,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
    )
    assert cfg.param_scheduler.milestones == [150, 180, 210]
    assert cfg.train_dataloader.batch_size == 64

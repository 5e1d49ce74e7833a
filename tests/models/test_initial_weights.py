"""Networks start with the weights that the authors' networks start with."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import Tensor, nn

from hsakd.registry import MODELS
from hsakd.utils.networks import trained_networks
from tests.conftest import ROOT

NORMAL, DEFAULT, SMALL, ZERO = 'normal', 'default', 'small', 'zero'
#: Weights and biases of the backbone's convolutions, the head, the branches' convolutions and the
#: joint heads. Most convolutions have no bias.
RULES = {
    'wrn': ((NORMAL, ZERO), (DEFAULT, ZERO), (NORMAL, ZERO), (DEFAULT, ZERO)),
    'resnet cifar': ((NORMAL, ZERO), (DEFAULT, DEFAULT), (NORMAL, ZERO), (DEFAULT, ZERO)),
    'vgg': ((NORMAL, ZERO), (SMALL, ZERO), (DEFAULT, DEFAULT), (DEFAULT, DEFAULT)),
    'mobilenet': ((NORMAL, ZERO), (SMALL, ZERO), (NORMAL, ZERO), (SMALL, ZERO)),
    'shufflenet-v1': ((DEFAULT, ZERO), (DEFAULT, DEFAULT), (NORMAL, ZERO), (DEFAULT, ZERO)),
    'shufflenet-v2': ((DEFAULT, ZERO), (DEFAULT, DEFAULT), (DEFAULT, ZERO), (DEFAULT, DEFAULT)),
    'resnet': ((NORMAL, ZERO), (DEFAULT, DEFAULT), (NORMAL, ZERO), (DEFAULT, DEFAULT)),
}
#: Each kind of network, as teacher, student or one of two online, and its rule.
CONFIGS = {
    'hsakd-teacher_wrn-40-2_1xb64-240e_cifar100': 'wrn',
    'hsakd-teacher_resnet56_1xb64-240e_cifar100': 'resnet cifar',
    'hsakd-teacher_vgg13_1xb64-240e_cifar100': 'vgg',
    'hsakd-teacher_resnet50_1xb64-240e_cifar100': 'resnet',
    'hsakd-online_mobilenet-v2_1xb64-240e_cifar100': 'mobilenet',
    'hsakd-online_shufflenet-v1_1xb64-240e_cifar100': 'shufflenet-v1',
    'hsakd-online_shufflenet-v2_1xb64-240e_cifar100': 'shufflenet-v2',
    'hsakd-offline_resnet32x4_resnet8x4_1xb64-240e_cifar100': 'resnet cifar',
    'hsakd-offline_resnet34_resnet18_8xb32-100e_imagenet': 'resnet',
}


def started(config: str, **changes: object) -> nn.Module:
    """The first network that learns of a model of configs/hsakd after ``init_weights()``."""
    cfg = Config.fromfile(ROOT / 'configs' / 'hsakd' / f'{config}.py')
    if 'teacher' in cfg.model:
        cfg.model.teacher_ckpt = None
    cfg.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
    model = MODELS.build(cfg.model)
    model.init_weights()
    return next(iter(trained_networks(model).values()))


def layers(module: nn.Module, kind: type) -> Iterator[nn.Module]:
    return (layer for layer in module.modules() if isinstance(layer, kind))


def check(layer: nn.Conv2d | nn.Linear, rule: tuple[str, str]) -> None:
    """Compare the weights of one layer with a distribution, within what their number allows."""
    weight, (kind, bias_kind) = layer.weight.detach(), rule
    fan_in = weight[0].numel()
    bound = 1 / math.sqrt(fan_in)
    std = {
        NORMAL: math.sqrt(2 / (weight[0, 0].numel() * len(weight))) if weight.ndim == 4 else None,
        DEFAULT: bound / math.sqrt(3),
        SMALL: 0.01,
    }[kind]
    # Five standard errors: of a standard deviation over n normal values, it is 1 / sqrt(2 n) of it.
    assert weight.std().item() == pytest.approx(std, rel=5 / math.sqrt(2 * weight.numel()))
    assert abs(weight.mean().item()) < 5 * std / math.sqrt(weight.numel())
    if kind == DEFAULT:
        check_uniform(weight, bound)
    elif weight.numel() > 1000:
        assert weight.abs().max() > 2 * std  # beyond the bound of a uniform distribution
    if layer.bias is not None:
        bias = layer.bias.detach()
        check_uniform(bias, bound) if bias_kind == DEFAULT else check_zero(bias)


def check_uniform(values: Tensor, bound: float) -> None:
    """All within the bound; the largest of n is below 1 - 16 / n of it once in 9 million times."""
    largest = values.abs().max().item()
    assert bound * (1 - 16 / values.numel()) < largest <= bound * (1 + 1e-6)


def check_zero(values: Tensor) -> None:
    assert not values.any()


@pytest.mark.parametrize('config', CONFIGS)
def test_starts_as_the_published_network(config: str) -> None:
    network = started(config)
    convolution, head, branch_convolution, joint_head = RULES[CONFIGS[config]]
    for part, kind, rule in (
        (network.backbone, nn.Conv2d, convolution),
        (network.head, nn.Linear, head),
        (network.branches, nn.Conv2d, branch_convolution),
        (network.joint_heads, nn.Linear, joint_head),
    ):
        found = list(layers(part, kind))
        assert found
        for layer in found:
            check(layer, rule)
    for norm in layers(network, nn.BatchNorm2d):
        assert (norm.weight == 1).all() and not norm.bias.any()


def test_networks_of_an_online_run_start_apart() -> None:
    path = 'configs/hsakd/hsakd-online_wrn-40-1_1xb64-240e_cifar100.py'
    model = MODELS.build(Config.fromfile(ROOT / path).model)
    model.init_weights()
    first, second = trained_networks(model).values()
    for a, b in zip(layers(first, nn.Conv2d), layers(second, nn.Conv2d), strict=True):
        assert not torch.equal(a.weight, b.weight)


def test_a_users_own_init_cfg_comes_first(tmp_path: Path) -> None:
    constant = dict(type='Constant', val=0.5)
    config = 'hsakd-teacher_vgg13_1xb64-240e_cifar100'
    network = started(
        config,
        **{
            'backbone.init_cfg': dict(constant, layer='Conv2d'),
            'head.init_cfg': dict(constant, layer='Linear'),
        },
    )
    for layer in (
        network.head.fc,
        *layers(network.backbone, nn.Conv2d),
        *layers(network.branches, nn.Conv2d),
    ):
        assert (layer.weight == 0.5).all()

    torch.save(network.backbone.state_dict(), tmp_path / 'backbone.pth')
    pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'backbone.pth'))
    network = started(config, **{'backbone.init_cfg': pretrained})
    assert all((layer.weight == 0.5).all() for layer in layers(network.backbone, nn.Conv2d))
    for layer in layers(network.branches, nn.Conv2d):  # the file is for the backbone alone
        check(layer, RULES['vgg'][2])


def test_other_backbones_of_mmpretrain_start_as_theirs() -> None:
    backbone = dict(type='mmpretrain.MobileNetV2', widen_factor=0.25)
    network = started(
        'hsakd-teacher_wrn-40-2_1xb64-240e_cifar100',
        backbone=dict(_delete_=True, **backbone),
    )
    check(network.head.fc, (SMALL, ZERO))
    for joint_head in network.joint_heads:
        check(joint_head.fc, (DEFAULT, DEFAULT))


@pytest.mark.parametrize(
    'backbone, size',
    [
        (dict(type='mmpretrain.MobileNetV2'), 64),
        (dict(type='mmpretrain.ResNet', depth=18), 64),
        (dict(type='mmpretrain.ConvNeXt', arch='tiny'), 64),
        (dict(type='mmpretrain.RepVGG', arch='A0', out_indices=(0, 1, 2, 3)), 64),
        (dict(type='mmpretrain.ResNetV1d', depth=18), 64),
        (dict(type='WideResNet', depth=10, widen_factor=1), 32),
    ],
)
def test_branches_of_a_backbone_from_a_file_start_as_its_class_does(backbone, size, tmp_path):
    """And the backbone as the file."""
    built = MODELS.build(backbone)
    built.init_weights()
    torch.save(built.state_dict(), tmp_path / 'weights.pth')
    pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'weights.pth'))
    spread = []
    for init_cfg in ({}, dict(init_cfg=pretrained)):
        own = MODELS.build(dict(backbone, **init_cfg))
        branches = MODELS.build(dict(type='AuxiliaryBranches', backbone=own))
        own.init_weights()
        branches.init_weights()
        weights = [p for p in branches.parameters() if p.ndim == 4 and p.numel() > 4000]
        spread.append(torch.stack([weight.std() for weight in weights]))
    assert all(torch.equal(a, b) for a, b in zip(own.state_dict().values(),
               built.state_dict().values(), strict=True))  # fmt: skip
    torch.testing.assert_close(*spread, rtol=0.1, atol=0)


def test_building_a_network_prints_a_few_lines(tmp_path: Path) -> None:
    config = ROOT / 'configs/baseline/resnet20_1xb64-240e_cifar100.py'
    (tmp_path / 'notebook.py').write_text(
        'import hsakd\n'
        'from mmengine.config import Config\n'
        'from hsakd.registry import MODELS\n'
        'hsakd.setup()\n'
        f'model = Config.fromfile({str(config)!r}).model\n'
        "plain = dict(model, type='mmpretrain.ImageClassifier')\n"
        'for built in (model, model.backbone, plain):\n'
        "    MODELS.build(dict(built, _scope_='hsakd')).init_weights()\n"
    )
    done = subprocess.run(
        [sys.executable, tmp_path / 'notebook.py'],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        check=True,
    )
    assert len((done.stdout + done.stderr).splitlines()) < 10

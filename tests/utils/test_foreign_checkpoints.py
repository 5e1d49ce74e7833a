"""Checkpoints as others write them: containers, wrappers, names, formats."""

import pytest
import torch
import torchvision
from torch import nn

from hsakd.registry import MODELS
from hsakd.utils.checkpoint import load_network, trust_checkpoints
from hsakd.utils.errors import CheckpointError

RESNET = dict(type='mmpretrain.ResNet', depth=18)


def network(backbone=RESNET, channels=512, classes=1000, **kwargs):
    return MODELS.build(
        dict(
            type='BranchedClassifier',
            backbone=backbone,
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=classes, in_channels=channels),
            **kwargs,
        )
    ).eval()


@pytest.fixture(scope='module')
def resnet():
    torch.manual_seed(0)
    return torchvision.models.resnet18().eval()


def renamed(weights, prefix):
    return {f'{prefix}{name}': value for name, value in weights.items()}


def check(ours, theirs, size=64):
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(images)[0], theirs(images), rtol=1e-4, atol=1e-5)


def test_those_of_our_own_networks_in_wrappers(tmp_path):
    theirs, ours = network(), network()
    torch.save(dict(state_dict=renamed(theirs.state_dict(), 'model.')), tmp_path / 'w.pth')
    load_network(ours, tmp_path / 'w.pth', 'load_from')
    check(ours, lambda images: theirs.logits(images)[0])


@pytest.mark.parametrize('norm', [{}, dict(norm_cfg=dict(type='BN'))])
def test_backbone_of_torchvisions_vgg(norm, tmp_path):
    """Its head of three layers is another one."""
    theirs = (torchvision.models.vgg13_bn if norm else torchvision.models.vgg13)().eval()
    torch.save(theirs.state_dict(), tmp_path / 'w.pth')
    ours = network(dict(type='mmpretrain.VGG', depth=13, **norm))
    load_network(ours, tmp_path / 'w.pth', 'backbone_ckpt', parts=('backbone',))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours.backbone(images)[-1], theirs.features(images))
    with pytest.raises(CheckpointError, match=r'missing from the checkpoint: head.fc'):
        load_network(ours, tmp_path / 'w.pth', 'load_from')


def test_another_network_of_a_known_family_is_refused(tmp_path):
    torch.save(torchvision.models.mobilenet_v2(width_mult=0.5).state_dict(), tmp_path / 'w.pth')
    ours = network(dict(type='mmpretrain.MobileNetV2'), 1280)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    with pytest.raises(CheckpointError, match='weights have another shape'):
        load_network(ours, tmp_path / 'w.pth', 'load_from')
    assert all(torch.equal(before[name], value) for name, value in ours.state_dict().items())


def test_what_is_no_file_of_weights_is_named(resnet, tmp_path):
    torch.jit.script(nn.Sequential(nn.Linear(2, 2))).save(tmp_path / 'script.pt')
    with pytest.raises(CheckpointError, match=r'torch.jit.load\(FILE\).*a TorchScript archive'):
        load_network(network(), tmp_path / 'script.pt', 'load_from')
    torch.save(resnet, tmp_path / 'module.pth')
    words = r'torchvision.models.resnet.ResNet.*a pickled module.*module.state_dict\(\)'
    with pytest.raises(CheckpointError, match=words):
        load_network(network(), tmp_path / 'module.pth', 'load_from')
    ours = network()
    with trust_checkpoints():
        load_network(ours, tmp_path / 'module.pth', 'load_from')
    check(ours, resnet)

"""Networks of others by path: torchvision's and mmpretrain's."""

import pytest
import torch
import torchvision

from hsakd.registry import MODELS
from hsakd.utils.checkpoint import load_network
from hsakd.utils.errors import CheckpointError
from tests.conftest import network_cfg
from tests.imagenet_files import save_torchvision


def classifier(backbone=None, num_classes=3, **kwargs):
    backbone = backbone or dict(type='mmpretrain.ResNet', depth=18)
    head = dict(
        type='mmpretrain.LinearClsHead',
        num_classes=num_classes,
        in_channels=512 if backbone['depth'] < 50 else 2048,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
    )
    neck = dict(type='mmpretrain.GlobalAveragePooling')
    cfg = dict(type='BranchedClassifier', backbone=backbone, neck=neck, head=head)
    return MODELS.build({**cfg, **kwargs})


@pytest.mark.parametrize(
    'name, backbone',
    [
        ('resnet18', dict(type='mmpretrain.ResNet', depth=18)),
        (
            'resnext50_32x4d',
            dict(type='mmpretrain.ResNeXt', depth=50, groups=32, width_per_group=4),
        ),
        (
            'wide_resnet50_2',
            dict(type='mmpretrain.ResNet', depth=50, base_channels=128, expansion=2),
        ),
    ],
)
def test_torchvision_gives_the_same_logits(tmp_path, name, backbone):
    theirs = save_torchvision(tmp_path / 'weights.pth', name).double()
    ours = classifier(backbone).eval()
    load_network(ours, tmp_path / 'weights.pth', 'checkpoint')
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours.double()(images)[0], theirs(images), rtol=1e-9, atol=1e-9)


def test_torchvision_as_others_save_it(tmp_path):
    theirs = save_torchvision(tmp_path / 'weights.pth').state_dict()
    old = {k: v for k, v in theirs.items() if not k.endswith('num_batches_tracked')}
    parallel = dict(state_dict={f'module.{k}': v for k, v in theirs.items()}, epoch=90)
    for content in (old, parallel):
        torch.save(content, tmp_path / 'other.pth')
        ours = classifier()
        load_network(ours, tmp_path / 'other.pth', 'checkpoint')
        assert torch.equal(ours.head.fc.weight, theirs['fc.weight'])
        assert torch.equal(
            ours.backbone.layer4[1].bn2.running_var, theirs['layer4.1.bn2.running_var']
        )


@pytest.mark.parametrize(
    'name, kwargs, words',
    [
        ('resnet34', {}, 'weights of the checkpoint have no place: backbone.layer1.2.conv1.weight'),
        ('resnet50', {}, 'have another shape'),
        ('resnet18', dict(num_classes=4), 'the checkpoint has 3 classes, the config 4'),
        (
            'resnet18',
            dict(branches=dict(type='AuxiliaryBranches')),
            'are missing from the checkpoint: branches.0',
        ),
        ('mobilenet_v2', {}, 'features.0.0.weight'),
    ],
)
def test_another_network_is_refused(tmp_path, name, kwargs, words):
    save_torchvision(tmp_path / 'weights.pth', name)
    with pytest.raises(CheckpointError, match=rf"model.teacher_ckpt='.*weights.pth'.*{words}"):
        load_network(classifier(**kwargs), tmp_path / 'weights.pth', 'model.teacher_ckpt')


def test_flat_weights_of_a_network_for_small_images_are_no_torchvision(tmp_path):
    weights = torchvision.models.resnet18().state_dict()
    weights['conv1.weight'] = torch.zeros(64, 3, 3, 3)
    torch.save(weights, tmp_path / 'cifar.pth')
    with pytest.raises(CheckpointError, match='cifar.pth.* got conv1.weight'):
        load_network(MODELS.build(network_cfg()), tmp_path / 'cifar.pth', 'checkpoint')

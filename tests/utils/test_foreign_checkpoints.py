"""Checkpoints as others write them: containers, wrappers, names, formats."""

import json
import re
import struct

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


@pytest.mark.parametrize(
    'write',
    [
        lambda w: w,
        lambda w: dict(model=w, optimizer={}, epoch=3),
        lambda w: dict(model=w, model_ema=renamed(w, 'module.') | dict(n_averaged=torch.tensor(1))),
        lambda w: dict(state_dict=w, arch='resnet18'),
        lambda w: dict(state_dict=renamed(w, 'module.')),
        lambda w: dict(state_dict=renamed(w, 'model.') | {'loss.weight': torch.ones(1000)}),
        lambda w: dict(state_dict=renamed(w, 'net.')),
        lambda w: dict(state_dict=renamed(w, 'model._orig_mod.')),
        lambda w: renamed(w, 'module._orig_mod.'),
        lambda w: dict(state_dict_ema=w),
        lambda w: dict(model_state_dict=w),
        lambda w: dict(model=renamed(w, 'module.model.')),
    ],
)
def test_containers_and_wrappers(write, resnet, tmp_path):
    torch.save(write(resnet.state_dict()), tmp_path / 'w.pth')
    ours = network()
    load_network(ours, tmp_path / 'w.pth', 'load_from')
    check(ours, resnet)


def test_those_of_our_own_networks_in_wrappers(tmp_path):
    theirs, ours = network(), network()
    torch.save(dict(state_dict=renamed(theirs.state_dict(), 'model.')), tmp_path / 'w.pth')
    load_network(ours, tmp_path / 'w.pth', 'load_from')
    check(ours, lambda images: theirs.logits(images)[0])


@pytest.mark.parametrize(
    'name, backbone, channels',
    [
        ('mobilenet_v2', dict(type='mmpretrain.MobileNetV2'), 1280),
        ('shufflenet_v2_x1_0', dict(type='mmpretrain.ShuffleNetV2'), 1024),
        ('resnext50_32x4d', dict(type='mmpretrain.ResNeXt', depth=50), 2048),
        ('wide_resnet50_2', dict(type='mmpretrain.ResNet', depth=50, base_channels=64), None),
    ],
)
def test_families_of_torchvision(name, backbone, channels, tmp_path):
    theirs = getattr(torchvision.models, name)().eval()
    torch.save(theirs.state_dict(), tmp_path / 'w.pth')
    if channels is None:  # as many layers, of other widths
        with pytest.raises(CheckpointError, match='another shape'):
            load_network(network(backbone, 2048), tmp_path / 'w.pth', 'load_from')
        return
    ours = network(backbone, channels)
    load_network(ours, tmp_path / 'w.pth', 'load_from')
    check(ours, theirs)


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


def timm_names(weights):
    """timm's names of torchvision's ConvNeXt."""
    names = {
        r'^features\.0\.(\d)': r'stem.\1',
        r'^features\.2\.(\d)\.': r'stages.1.downsample.\1.',
        r'^features\.4\.(\d)\.': r'stages.2.downsample.\1.',
        r'^features\.6\.(\d)\.': r'stages.3.downsample.\1.',
        r'^features\.1\.': 'stages.0.blocks.', r'^features\.3\.': 'stages.1.blocks.',
        r'^features\.5\.': 'stages.2.blocks.', r'^features\.7\.': 'stages.3.blocks.',
        r'\.layer_scale': '.gamma', r'\.block\.0': '.conv_dw', r'\.block\.2': '.norm',
        r'\.block\.3': '.mlp.fc1', r'\.block\.5': '.mlp.fc2',
        r'^classifier\.0': 'head.norm', r'^classifier\.2': 'head.fc',
    }  # fmt: skip
    found = {}
    for name, value in weights.items():
        for old, new in names.items():
            name = re.sub(old, new, name)
        found[name] = value.flatten() if name.endswith('.gamma') else value
    return found


@pytest.mark.parametrize('rename', [dict, timm_names], ids=['torchvision', 'timm'])
def test_convnext(rename, tmp_path):
    theirs = torchvision.models.convnext_tiny().eval()
    torch.save(dict(model=rename(theirs.state_dict())), tmp_path / 'w.pth')
    ours = network(dict(type='mmpretrain.ConvNeXt', arch='tiny'), 768)
    ours.neck = None
    load_network(ours, tmp_path / 'w.pth', 'load_from')
    with torch.no_grad():
        images = torch.randn(2, 3, 64, 64)
        found = ours.head((ours.backbone(images)[-1],))
        torch.testing.assert_close(found, theirs(images), rtol=1e-4, atol=1e-5)


def test_another_network_of_a_known_family_is_refused(tmp_path):
    torch.save(torchvision.models.mobilenet_v2(width_mult=0.5).state_dict(), tmp_path / 'w.pth')
    ours = network(dict(type='mmpretrain.MobileNetV2'), 1280)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    with pytest.raises(CheckpointError, match='weights have another shape'):
        load_network(ours, tmp_path / 'w.pth', 'load_from')
    assert all(torch.equal(before[name], value) for name, value in ours.state_dict().items())


def write_safetensors(path, weights):
    """As the package of this name does."""
    names = {torch.float32: 'F32', torch.int64: 'I64', torch.float16: 'F16'}
    header, content = {'__metadata__': {'format': 'pt'}}, b''
    for name, value in weights.items():
        data = value.contiguous().numpy().tobytes()
        offsets = [len(content), len(content) + len(data)]
        shape = list(value.shape)
        header[name] = dict(dtype=names[value.dtype], shape=shape, data_offsets=offsets)
        content += data
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack('<Q', len(text)) + text + content)


def test_safetensors(resnet, tmp_path):
    write_safetensors(tmp_path / 'w.safetensors', resnet.state_dict())
    ours = network()
    load_network(ours, tmp_path / 'w.safetensors', 'load_from')
    check(ours, resnet)


@pytest.mark.parametrize('keep', [0, 5, 1000, -8])
def test_damaged_safetensors(keep, resnet, tmp_path):
    path = tmp_path / 'w.safetensors'
    write_safetensors(path, resnet.state_dict())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="load_from='.*w.safetensors'.*damaged"):
        load_network(network(), path, 'load_from')
    path.unlink()
    with pytest.raises(CheckpointError, match='no such file'):
        load_network(network(), path, 'load_from')


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

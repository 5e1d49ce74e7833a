"""Networks of others by path: torchvision's and mmpretrain's."""

import re

import pytest
import torch
import torchvision

from hsakd.registry import MODELS
from hsakd.utils.checkpoint import checkpoint_weights, load_network
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
        ('mobilenet_v2', {}, '120 weights are missing from the checkpoint'),
        ('densenet121', {}, 'a family in docs/checkpoints.md.* got features.conv0.weight'),
    ],
)
def test_another_network_is_refused(tmp_path, name, kwargs, words):
    save_torchvision(tmp_path / 'weights.pth', name)
    with pytest.raises(CheckpointError, match=rf"model.teacher_ckpt='.*weights.pth'.*{words}"):
        load_network(classifier(**kwargs), tmp_path / 'weights.pth', 'model.teacher_ckpt')


#: Networks of torchvision's, and ours for them: backbone, and channels of the head.
FAMILIES = {
    'mobilenet_v2': (dict(type='mmpretrain.MobileNetV2'), 1280),
    'shufflenet_v2_x0_5': (dict(type='mmpretrain.ShuffleNetV2', widen_factor=0.5), 1024),
    'convnext_tiny': (dict(type='mmpretrain.ConvNeXt', arch='tiny'), 768),
    'swin_t': (dict(type='mmpretrain.SwinTransformer', arch='tiny'), 768),
    'vgg11': (dict(type='mmpretrain.VGG', depth=11, num_classes=3), None),
    'vgg13_bn': (
        dict(type='mmpretrain.VGG', depth=13, num_classes=3, norm_cfg=dict(type='BN')),
        None,
    ),
}


def network_for(name):
    """Our network for the weights of torchvision's, in double precision."""
    backbone, channels = FAMILIES[name]
    head = dict(type='mmpretrain.ClsHead', loss=dict(type='mmpretrain.CrossEntropyLoss'))
    if channels:
        head |= dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=channels)
    pools = channels is None or name == 'convnext_tiny'
    neck = None if pools else dict(type='mmpretrain.GlobalAveragePooling')
    cfg = dict(type='BranchedClassifier', backbone=backbone, neck=neck, head=head)
    return MODELS.build(cfg).double().eval()


def of_torchvision(name):
    """A network of torchvision's whose weights are all unlike each other."""
    network = getattr(torchvision.models, name)(num_classes=3).double().eval()
    for parameter in network.parameters():
        if parameter.numel() < 4000:  # constants at the start
            torch.nn.init.uniform_(parameter, 0.5, 1)
    return network


def assert_same_logits(ours, theirs):
    images = torch.randn(1, 3, 224, 224, dtype=torch.float64)
    with torch.no_grad():
        found = ours.extract_feat(images)
        found = found[-1] if type(ours.head).__name__ == 'ClsHead' else ours.head(found)
        torch.testing.assert_close(found, theirs(images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('name', FAMILIES)
def test_families_of_torchvision_give_the_same_logits(tmp_path, name):
    theirs = of_torchvision(name)
    torch.save(theirs.state_dict(), tmp_path / 'weights.pth')
    ours = network_for(name)
    load_network(ours, tmp_path / 'weights.pth', 'checkpoint')
    assert_same_logits(ours, theirs)


def renamed(weights, *rules):
    found = {}
    for name, value in weights.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        found[name] = value
    return found


def timm_convnext(weights):
    return renamed(
        {k: v.flatten() if 'layer_scale' in k else v for k, v in weights.items()},
        (r'^features\.0\.', 'stem.'),
        (r'^features\.([246])\.', lambda m: f'stages.{int(m[1]) // 2}.downsample.'),
        (r'^features\.(\d)\.', lambda m: f'stages.{int(m[1]) // 2}.blocks.'),
        (r'block\.0\.', 'conv_dw.'),
        (r'block\.2\.', 'norm.'),
        (r'block\.3\.', 'mlp.fc1.'),
        (r'block\.5\.', 'mlp.fc2.'),
        (r'layer_scale', 'gamma'),
        (r'^classifier\.0\.', 'head.norm.'),
        (r'^classifier\.2\.', 'head.fc.'),
    )


def facebook_convnext(weights):
    return renamed(
        timm_convnext(weights),
        (r'^stem\.', 'downsample_layers.0.'),
        (r'^stages\.(\d)\.downsample', r'downsample_layers.\1'),
        (r'\.blocks\.', '.'),
        (r'conv_dw', 'dwconv'),
        (r'mlp\.fc', 'pwconv'),
        (r'^head\.norm', 'norm'),
        (r'^head\.fc', 'head'),
    )


def microsoft_swin(weights):
    blocks = (r'^features\.([1357])\.', lambda m: f'layers.{int(m[1]) // 2}.blocks.')
    merging = (r'^features\.([246])\.', lambda m: f'layers.{int(m[1]) // 2 - 1}.downsample.')
    names = (r'^features\.0\.0', 'patch_embed.proj'), (r'^features\.0\.2', 'patch_embed.norm')
    layers = (r'mlp\.0', 'mlp.fc1'), (r'mlp\.3', 'mlp.fc2')
    masks = {'layers.0.blocks.1.attn_mask': torch.zeros(64, 49, 49)}
    return renamed(weights, *names, blocks, merging, *layers) | masks


def timm_swin(weights):
    weights = {k: v for k, v in microsoft_swin(weights).items() if '_index' not in k}
    merging = (r'layers\.(\d)\.downsample', lambda m: f'layers.{int(m[1]) + 1}.downsample')
    return renamed(weights, merging, (r'^head\.', 'head.fc.'))


def timm_mobilenet(weights):
    numbers = iter([(g, b) for g, n in enumerate((1, 2, 3, 4, 3, 3, 1)) for b in range(n)])
    places = {i: next(numbers) for i in range(1, 18)}
    first = {'0.0': 'conv_dw', '0.1': 'bn1', '1': 'conv_pw', '2': 'bn2'}
    layers = {'0.0': 'conv_pw', '0.1': 'bn1', '1.0': 'conv_dw', '1.1': 'bn2'}
    layers |= {'2': 'conv_pwl', '3': 'bn3'}

    def block(m):
        group, number = places[int(m[1])]
        return f'blocks.{group}.{number}.{(layers if group else first)[m[2]]}.'

    return renamed(
        weights,
        (r'^features\.(\d+)\.conv\.([\d.]+)\.', block),
        (r'^features\.0\.0', 'conv_stem'),
        (r'^features\.0\.1', 'bn1'),
        (r'^features\.18\.0', 'conv_head'),
        (r'^features\.18\.1', 'bn2'),
        (r'^classifier\.1', 'classifier'),
    )


def timm_vgg(weights):
    shapes = {'classifier.0.weight': (-1, 512, 7, 7), 'classifier.3.weight': (-1, 4096, 1, 1)}
    weights = {k: v.reshape(shapes.get(k, v.shape)) for k, v in weights.items()}
    names = (r'classifier\.0', 'pre_logits.fc1'), (r'classifier\.3', 'pre_logits.fc2')
    return renamed(weights, *names, (r'classifier\.6', 'head.fc'))


@pytest.mark.parametrize(
    'name, rename',
    [
        ('convnext_tiny', timm_convnext),
        ('convnext_tiny', facebook_convnext),
        ('swin_t', microsoft_swin),
        ('swin_t', timm_swin),
        ('mobilenet_v2', timm_mobilenet),
        ('vgg13_bn', timm_vgg),
    ],
    ids=lambda value: getattr(value, '__name__', value),
)
def test_names_of_timm_and_of_authors(tmp_path, name, rename):
    theirs = of_torchvision(name)
    torch.save(rename(theirs.state_dict()), tmp_path / 'weights.pth')
    ours = network_for(name)
    load_network(ours, tmp_path / 'weights.pth', 'checkpoint')
    assert_same_logits(ours, theirs)


def authors_repvgg(weights):
    kinds = (
        (r'branch_3x3', 'rbr_dense'),
        (r'branch_1x1', 'rbr_1x1'),
        (r'branch_norm', 'rbr_identity'),
    )
    kinds += ((r'branch_norm', 'rbr_identity'),)
    stages = (r'^backbone\.stem', 'stage0'), (r'^backbone\.stage_(\d)', r'stage\1')
    return renamed(weights, *kinds, *stages, (r'\.norm\.', '.bn.'), (r'^head\.fc', 'linear'))


def timm_repvgg(weights):
    kinds = (r'branch_3x3', 'conv_kxk'), (r'branch_1x1', 'conv_1x1'), (r'branch_norm', 'identity')
    stages = (r'backbone\.stage_(\d)', lambda m: f'stages.{int(m[1]) - 1}'), (r'^backbone\.', '')
    return renamed(weights, *kinds, *stages, (r'\.norm\.', '.bn.'))


@pytest.mark.parametrize('rename', [authors_repvgg, timm_repvgg])
def test_names_of_repvgg(tmp_path, rename):
    head = dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=1280)
    cfg = network_cfg(branches=False) | dict(head=head)
    cfg['backbone'] = dict(type='mmpretrain.RepVGG', arch='A0', out_indices=(3,))
    theirs, ours = MODELS.build(cfg), MODELS.build(cfg)
    for value in theirs.state_dict().values():
        value.copy_(torch.rand(value.shape))
    torch.save(dict(model=rename(theirs.state_dict())), tmp_path / 'weights.pth')
    load_network(ours, tmp_path / 'weights.pth', 'checkpoint')
    found = ours.state_dict()
    assert all(torch.equal(found[name], value) for name, value in theirs.state_dict().items())


def test_flat_weights_of_a_network_for_small_images_are_no_torchvision(tmp_path):
    weights = torchvision.models.resnet18().state_dict()
    weights['conv1.weight'] = torch.zeros(64, 3, 3, 3)
    torch.save(weights, tmp_path / 'cifar.pth')
    with pytest.raises(CheckpointError, match='cifar.pth.* got conv1.weight'):
        load_network(MODELS.build(network_cfg()), tmp_path / 'cifar.pth', 'checkpoint')


def test_names_of_a_model_of_mmengine_stay():
    """Of one that calls a part ``model``, for one, which resumes by these names."""
    names = {f'model.layer.{i}': torch.ones(1) for i in range(3)}
    assert checkpoint_weights(dict(meta=dict(epoch=1), state_dict=names)).keys() == names.keys()
    assert checkpoint_weights(dict(state_dict=names)).keys() == {f'layer.{i}' for i in range(3)}

"""Networks by the names that people know: ours, mmpretrain's, torchvision's and timm's."""

import copy
from difflib import get_close_matches
from importlib.util import find_spec

import torch
from mmengine.config import Config

from hsakd.models.backbones.stages import find_stages
from hsakd.registry import MODELS
from hsakd.results.names import CONFIGS
from hsakd.utils.errors import ConfigError

#: Images up to this side get ResNets with a stem for small images.
_SMALL = 64


def _of(kind: str, **settings: object) -> dict:
    return dict(type=f'mmpretrain.{kind}', **settings)


_RESNETS = {f'resnet{depth}': depth for depth in (18, 34, 50, 101, 152)}
#: Of mmpretrain, by torchvision's names.
_KNOWN = {
    **{name: _of('ResNet', depth=d, zero_init_residual=False) for name, d in _RESNETS.items()},
    'mobilenet_v2': _of('MobileNetV2'),
    'mobilenet_v3_small': _of('MobileNetV3', arch='small'),
    'mobilenet_v3_large': _of('MobileNetV3', arch='large'),
    'shufflenet_v2_x0_5': _of('ShuffleNetV2', widen_factor=0.5),
    'shufflenet_v2_x1_0': _of('ShuffleNetV2', widen_factor=1.0),
    'vgg11_bn': _of('VGG', depth=11, norm_cfg=dict(type='BN')),
    'vgg16_bn': _of('VGG', depth=16, norm_cfg=dict(type='BN')),
    'efficientnet_b0': _of('EfficientNet', arch='b0'),
    'convnext_tiny': _of('ConvNeXt', arch='tiny'),
    'swin_t': _of('SwinTransformer', arch='tiny'),
}


def known_networks() -> list[str]:
    """All names but those of timm's networks and of mmpretrain's models."""
    ours = [path.stem for path in (CONFIGS / '_base_/networks').glob('*.py')]
    return sorted({*ours, *_KNOWN} - {'classifier'})


def network_config(name: str, num_classes: int, image_size: int, key: str) -> dict:
    """The config of a plain network, without branches.

    Args:
        name: ``resnet18``, ``wrn-16-2``, ``torchvision/resnet18``, ``timm/mobilenetv3_small_100``,
            or that of a model of mmpretrain's (``resnet18_8xb32_in1k``).
        num_classes: Of the head.
        image_size: Side of images in pixels; ``resnet18`` and its like have, for small ones, a stem
            that keeps their size, unless the name says torchvision.
        key: What named it, for messages.

    Raises:
        ConfigError: It is not known, or timm is not installed.
    """
    source, _, bare = name.rpartition('/')
    network = dict(type='BranchedClassifier', neck=_of('GlobalAveragePooling'))
    ours = CONFIGS / f'_base_/networks/{bare}.py'
    if source == 'timm':
        where = f'{key}={name!r}'
        ConfigError.check(find_spec('timm'), where, 'timm (pip install timm)', 'no such package')
        import timm

        known = timm.list_models()
        found = f'an unknown one; {_nearest(bare, known)}'
        ConfigError.check(bare in known, where, "the name of one of timm's networks", found)
        backbone = _of('TIMMBackbone', model_name=bare, features_only=True, pretrained=False)
    elif source in ('', 'torchvision') and bare in _KNOWN:
        backbone = copy.deepcopy(_KNOWN[bare])
        if not source and image_size <= _SMALL and bare in _RESNETS:
            backbone['type'] = 'mmpretrain.ResNet_CIFAR'
    elif not source and bare != 'classifier' and ours.is_file():
        model = Config.fromfile(str(ours)).to_dict()['model']
        backbone, network['neck'] = model['backbone'], model['neck']
    else:
        backbone, network['neck'] = _of_mmpretrain(name, bare, source, key)
    if backbone['type'].endswith('ConvNeXt'):  # which pools
        network['neck'] = None
    network['backbone'] = backbone
    network['head'] = dict(
        type='mmpretrain.LinearClsHead',
        num_classes=num_classes,
        in_channels=_features(network, image_size, f'{key}={name!r}'),
        loss=_of('CrossEntropyLoss'),
    )
    return network


def _of_mmpretrain(name: str, bare: str, source: str, key: str) -> tuple[dict, dict | None]:
    """Backbone and neck of one of mmpretrain's models."""
    from mmpretrain.apis import ModelHub, list_models

    known = known_networks()
    expected = (
        f'one of {", ".join(known)}; torchvision/NAME of those, timm/NAME, or mmpretrain/NAME of '
        'one of its models, such as mmpretrain/resnet18_8xb32_in1k'
    )
    models = list_models() if source == 'mmpretrain' else []
    found = _nearest(bare, [*known, *models])
    ConfigError.check(bare in models, f'{key}={name!r}', expected, found)
    model = ModelHub.get(bare).config.model.to_dict()
    parts = [model['backbone'], model.get('neck')]
    for part in filter(None, parts):
        part['type'] = f'mmpretrain.{part["type"].removeprefix("mmpretrain.")}'
        part.pop('init_cfg', None)
    return tuple(parts)


def _nearest(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, 3)
    return f'nearest: {", ".join(near)}' if near else 'none like it'


def _features(network: dict, image_size: int, where: str) -> int:
    """Features that the head gets."""
    parts = [MODELS.build(network[k]) for k in ('backbone', 'neck') if network[k]]
    try:
        x = torch.zeros(2, 3, image_size, image_size)
        with torch.no_grad():
            for part in parts:
                part.eval()
                x = part(x)
    except Exception as error:  # of anybody's layers
        expected = f'a network for images of {image_size}x{image_size} pixels (image_size)'
        found = f'{type(error).__name__}: {" ".join(str(error).split())}'
        raise ConfigError.expected(where, expected, found) from error
    x = x[-1] if isinstance(x, list | tuple) else x
    return x.shape[1]


def with_branches(network: dict, number: int | None = None) -> dict:
    """A network with branches at its last stages: copies of its own stages, or else convolutions.

    Args:
        network: Its config.
        number: Of branches; as many as stages by default.
    """
    known, stages = _stages(network)
    branches = dict(type='AuxiliaryBranches' if known else 'ConvBranches')
    if number and number < stages:
        branches['stages'] = list(range(stages - number, stages))
    return dict(network, branches=branches)


def number_of_stages(network: dict) -> int:
    """How many branches it could have."""
    return _stages(network)[1]


def _stages(network: dict) -> tuple[bool, int]:
    """Whether its stages are known, so that they can be copied, and how many there are."""
    backbone = MODELS.build(network['backbone'])
    parts = find_stages(backbone)
    if parts:
        return True, len(parts.stages)
    backbone.eval()
    with torch.no_grad():
        return False, len(backbone(torch.zeros(1, 3, 224, 224)))

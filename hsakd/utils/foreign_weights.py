"""Weights of torchvision and timm by the names that mmpretrain's networks have for them."""

import re
from collections.abc import Mapping

from torch import Tensor, nn

#: Backbones of mmpretrain whose layers torchvision and timm have in the same order.
_SAME_ORDER = ('MobileNetV2', 'ShuffleNetV2', 'VGG')
#: Of ConvNeXt: torchvision's names, then timm's.
_CONVNEXT = (
    (r'^features\.0\.(\d)\.', r'downsample_layers.0.\1.'),
    (r'^features\.([246])\.(\d)\.', lambda m: f'downsample_layers.{int(m[1]) // 2}.{m[2]}.'),
    (r'^features\.(\d)\.(\d+)\.', lambda m: f'stages.{int(m[1]) // 2}.{m[2]}.'),
    (r'^stem\.(\d)\.', r'downsample_layers.0.\1.'),
    (r'^stages\.(\d)\.downsample\.(\d)\.', r'downsample_layers.\1.\2.'),
    (r'^stages\.(\d)\.blocks\.(\d+)\.', r'stages.\1.\2.'),
    (r'\.layer_scale$', '.gamma'),
    (r'\.(block\.0|conv_dw)\.', '.depthwise_conv.'),
    (r'\.block\.2\.', '.norm.'),
    (r'\.(block\.3|mlp\.fc1)\.', '.pointwise_conv1.'),
    (r'\.(block\.5|mlp\.fc2)\.', '.pointwise_conv2.'),
    (r'^(classifier\.0|head\.norm)\.', 'norm3.'),
    (r'^(classifier\.2|head\.fc|head)\.(weight|bias)$', r'head.fc.\2'),
)


def foreign_network(weights: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Weights of torchvision or timm by the names of a network; empty where they are of another.

    Each weight of the backbone has to be there, in its shape; of a head that is one linear layer
    the weights come along.

    Args:
        weights: As their packages name them.
        network: With a ``backbone`` of mmpretrain.
    """
    wanted, kind = network.backbone.state_dict(), type(network.backbone).__name__
    if kind == 'ConvNeXt':
        found = {}
        for name, value in weights.items():
            for pattern, replacement in _CONVNEXT:
                name = re.sub(pattern, replacement, name)
            found[name] = value.reshape(-1) if name.endswith('.gamma') else value
        head = {key: found.pop(key) for key in list(found) if key.startswith('head.')}
    elif kind in _SAME_ORDER:
        values = list(weights.items())
        found = {name: value for name, (_, value) in zip(wanted, values, strict=False)}
        ends = [name.rpartition('.')[2] for name, _ in values[: len(wanted)]]
        if ends != [name.rpartition('.')[2] for name in wanted]:
            return {}
        left = [value for _, value in values[len(wanted) :]]
        linear = len(left) == 2 and left[0].ndim == 2
        head = dict(zip(('head.fc.weight', 'head.fc.bias'), left, strict=True)) if linear else {}
    else:
        return {}
    fits = all(name in found and found[name].shape == wanted[name].shape for name in wanted)
    return {f'backbone.{name}': found[name] for name in wanted} | head if fits else {}

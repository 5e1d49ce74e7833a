"""Names that torchvision, timm and authors give to weights, as mmpretrain names them."""

import re
from collections.abc import Callable, Collection, Mapping
from itertools import pairwise

import torch
from torch import Tensor

#: A pattern at which a name is changed, and what it becomes there.
Rule = tuple[str, str | Callable[[re.Match], str]]

# Wrappers: of several processes, of Lightning's modules, of averaged weights.
_WRAPPERS = re.compile(r'(?:(?:module|model|net|network)\.)*')
_OURS = re.compile(r'(?:student\.|networks\.\d+\.)?backbone\.')


def without_wrappers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by their names inside of what they were saved in, such as ``module.`` of DDP.

    Those of what else was in it, such as a loss or metrics, are left out.
    """
    weights = {re.sub(r'(^|\.)_orig_mod\.', r'\1', name): w for name, w in weights.items()}
    if any(map(_OURS.match, weights)):
        return weights
    wrappers = [_WRAPPERS.match(name)[0] for name in weights]
    most = max(wrappers, key=wrappers.count, default='')
    return {name.removeprefix(most): w for name, w in weights.items() if name.startswith(most)}


def as_mmpretrain(weights: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Weights of a whole network of torchvision, timm or its authors by mmpretrain's names.

    Args:
        weights: By the names in the network.

    Returns:
        ``backbone.*`` and ``head.fc.*``; None for other networks. Whether they are complete is for
        the reader to compare.
    """
    if is_resnet(weights):
        return _renamed(weights, ())
    if 'features.0.weight' in weights:
        return _vgg(weights)
    for known, rules in _FAMILIES.items():
        if known in weights:
            renamed = _renamed(weights, rules)
            return _swin(renamed) if _SWIN[0] in rules else renamed
    return None


def as_timm_backbone(
    weights: Mapping[str, Tensor], wanted: Collection[str]
) -> dict[str, Tensor] | None:
    """Weights of a classifier of timm by the names of a network with mmpretrain's ``TIMMBackbone``.

    Args:
        weights: By timm's names.
        wanted: Names of the weights of the network.

    Returns:
        Those that the backbone has, the head's, and others by the names that they had. None for
        a network without ``TIMMBackbone``.
    """
    inside = {name.removeprefix(_TIMM) for name in wanted if name.startswith(_TIMM)}
    if not inside:
        return None
    renamed = {}
    for name, value in weights.items():
        # Where timm's features_only takes a network apart, stages.0 becomes stages_0.
        places = (name, name.replace('.', '_', 1))
        place = next((f'{_TIMM}{place}' for place in places if place in inside), None)
        renamed[place or re.sub(*_HEAD[0], name)] = value
    return renamed


def is_resnet(weights: Mapping[str, Tensor]) -> bool:
    """Tell ImageNet's from the ResNets for 32x32 images of others, which share some names."""
    stem = weights.get('conv1.weight')
    return 'layer4.0.conv1.weight' in weights and stem is not None and stem.shape[2:] == (7, 7)


def _renamed(weights: Mapping[str, Tensor], rules: tuple[Rule, ...]) -> dict[str, Tensor]:
    renamed = {}
    for name, value in weights.items():
        for pattern, replacement in (*rules, *_HEAD):
            name = re.sub(pattern, replacement, name)
        if name.endswith(('.gamma', '.beta')):
            value = value.flatten()  # [C, 1, 1] or [1, 1, 1, C] elsewhere
        renamed[name if name.startswith('head.') else f'backbone.{name}'] = value
    return renamed


_HEAD: tuple[Rule, ...] = (
    (r'^(fc|head|head\.fc|linear|classifier|classifier\.\d)\.(?=(weight|bias)$)', 'head.fc.'),
)
_TIMM = 'backbone.timm_model.'
#: Layer and block of mmpretrain's MobileNetV2, of each block in order.
_MOBILENET = [
    (layer, block)
    for layer, number in enumerate((1, 2, 3, 4, 3, 3, 1), 1)
    for block in range(number)
]


def _mobilenet_block(m: re.Match) -> str:
    layer, block = _MOBILENET[min(int(m[1]), len(_MOBILENET)) - 1]
    return f'layer{layer}.{block}.conv.'


_REPVGG: tuple[Rule, ...] = (
    (r'\.(rbr_dense|conv_kxk)\.', '.branch_3x3.'),
    (r'\.(rbr_1x1|conv_1x1)\.', '.branch_1x1.'),
    (r'\.(rbr_identity|identity)\.', '.branch_norm.'),
    (r'\.(rbr_reparam|reparam_conv)\.', '.branch_reparam.'),
    (r'\.bn\.', '.norm.'),
)
_CONVNEXT: tuple[Rule, ...] = (
    (r'\.(dwconv|conv_dw)\.', '.depthwise_conv.'),
    (r'\.(pwconv|mlp\.fc)(?=[12]\.)', '.pointwise_conv'),
    (r'\.(layer_scale)$', '.gamma'),
    (r'\.(mlp\.)?grn\.(weight|gamma)$', '.grn.gamma'),
    (r'\.(mlp\.)?grn\.(bias|beta)$', '.grn.beta'),
    (r'^(head\.)?norm\.', 'norm3.'),
)
_SWIN: tuple[Rule, ...] = (
    (r'\.attn\.', '.attn.w_msa.'),
    (r'\.mlp\.(0|fc1)\.', '.ffn.layers.0.0.'),
    (r'\.mlp\.(3|fc2)\.', '.ffn.layers.1.'),
    (r'^patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'^norm\.', 'norm3.'),
)
#: By the name of a weight that no other family has.
_FAMILIES: dict[str, tuple[Rule, ...]] = {
    'features.1.conv.0.0.weight': (  # MobileNetV2 of torchvision
        (r'^features\.0\.', 'conv1.'),
        (r'^features\.18\.', 'conv2.'),
        (r'^features\.(\d+)\.conv\.', _mobilenet_block),
        (r'^(conv[12]|layer.*\.conv\.\d)\.0\.', r'\1.conv.'),
        (r'^(conv[12]|layer.*\.conv\.\d)\.1\.', r'\1.bn.'),
        (r'^(layer1\.0\.conv)\.1\.(?=[^.]+$)', r'\1.1.conv.'),
        (r'^(layer1\.0\.conv)\.2\.(?=[^.]+$)', r'\1.1.bn.'),
        (r'\.conv\.2\.(?=[^.]+$)', '.conv.2.conv.'),
        (r'\.conv\.3\.(?=[^.]+$)', '.conv.2.bn.'),
    ),
    'blocks.1.0.conv_pwl.weight': (  # MobileNetV2 of timm
        (r'^conv_stem\.', 'conv1.conv.'),
        (r'^bn1\.', 'conv1.bn.'),
        (r'^conv_head\.', 'conv2.conv.'),
        (r'^bn2\.', 'conv2.bn.'),
        (r'^(blocks\.0\.\d+)\.conv_dw\.', r'\1.conv.0.conv.'),
        (r'^(blocks\.0\.\d+)\.conv_pw\.', r'\1.conv.1.conv.'),
        (r'\.conv_pw\.', '.conv.0.conv.'),
        (r'\.conv_dw\.', '.conv.1.conv.'),
        (r'\.conv_pwl\.', '.conv.2.conv.'),
        (r'\.bn([123])\.', lambda m: f'.conv.{int(m[1]) - 1}.bn.'),
        (r'^blocks\.(\d)\.', lambda m: f'layer{int(m[1]) + 1}.'),
    ),
    'stage2.0.branch1.0.weight': (  # ShuffleNetV2 of torchvision
        (r'^conv5\.', 'layers.3.'),
        (r'^(conv1|layers\.3)\.0\.', r'\1.conv.'),
        (r'^(conv1|layers\.3)\.1\.', r'\1.bn.'),
        (r'^stage(\d)\.', lambda m: f'layers.{int(m[1]) - 2}.'),
        *(
            (rf'\.{branch}\.{number + norm}\.', f'.{branch}.{index}.{("conv", "bn")[norm]}.')
            for branch, numbers in (('branch1', (0, 2)), ('branch2', (0, 3, 5)))
            for index, number in enumerate(numbers)
            for norm in (0, 1)
        ),
    ),
    'features.1.0.layer_scale': (  # ConvNeXt of torchvision
        (r'^features\.([0246])\.', lambda m: f'downsample_layers.{int(m[1]) // 2}.'),
        (r'^features\.([1357])\.', lambda m: f'stages.{int(m[1]) // 2}.'),
        (r'\.block\.0\.', '.depthwise_conv.'),
        (r'\.block\.2\.', '.norm.'),
        (r'\.block\.3\.', '.pointwise_conv1.'),
        (r'\.block\.5\.', '.pointwise_conv2.'),
        (r'^classifier\.0\.', 'norm3.'),
        *_CONVNEXT,
    ),
    'stages.0.blocks.0.conv_dw.weight': (  # ConvNeXt of timm
        (r'^stem\.', 'downsample_layers.0.'),
        (r'^stages\.(\d)\.downsample\.', r'downsample_layers.\1.'),
        (r'\.blocks\.', '.'),
        *_CONVNEXT,
    ),
    'stages.0.0.dwconv.weight': _CONVNEXT,  # of its authors
    'features.1.0.attn.relative_position_bias_table': (  # Swin Transformer of torchvision
        (r'^features\.0\.0\.', 'patch_embed.projection.'),
        (r'^features\.0\.2\.', 'patch_embed.norm.'),
        (r'^features\.([246])\.', lambda m: f'stages.{int(m[1]) // 2 - 1}.downsample.'),
        (r'^features\.([1357])\.', lambda m: f'stages.{int(m[1]) // 2}.blocks.'),
        *_SWIN,
    ),
    # Swin Transformer of its authors, whose patches are merged at the end of a stage, and of timm
    'layers.0.downsample.reduction.weight': ((r'^layers\.', 'stages.'), *_SWIN),
    'layers.1.downsample.reduction.weight': (
        (r'^layers\.(\d)\.downsample\.', lambda m: f'stages.{int(m[1]) - 1}.downsample.'),
        (r'^layers\.', 'stages.'),
        *_SWIN,
    ),
    'stage1.0.rbr_dense.conv.weight': (  # RepVGG of its authors
        (r'^stage0\.', 'stem.'),
        (r'^stage(\d)\.', r'stage_\1.'),
        *_REPVGG,
    ),
    'stem.conv_kxk.conv.weight': (  # RepVGG of timm
        (r'^stages\.(\d)\.', lambda m: f'stage_{int(m[1]) + 1}.'),
        *_REPVGG,
    ),
}


def _vgg(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Layers by the count of mmpretrain, to which a convolution with norm and ReLU is one."""
    convolutions = [
        int(name.split('.')[1])
        for name, value in weights.items()
        if name.startswith('features.') and value.ndim == 4
    ]
    step = 3 if 'features.1.running_mean' in weights else 2
    places, place = {}, 0
    for before, number in pairwise([0, *convolutions]):
        place += (number > 0) + (number - before > step)  # a max pool between
        places |= {f'features.{number}': f'{place}.conv', f'features.{number + 1}': f'{place}.bn'}
    renamed = {}
    for name, value in weights.items():
        layer, _, kind = name.rpartition('.')
        if layer in places:
            renamed[f'backbone.features.{places[layer]}.{kind}'] = value
        else:
            layer = _VGG_CLASSIFIER.get(layer, layer)
            value = value.flatten(1) if value.ndim == 4 else value  # convolutions in timm's
            renamed[f'backbone.{layer}.{kind}'] = value
    return renamed


#: The fully connected layers in timm's, and in torchvision's and mmpretrain's.
_VGG_CLASSIFIER = {
    'pre_logits.fc1': 'classifier.0',
    'pre_logits.fc2': 'classifier.3',
    'head.fc': 'classifier.6',
}


def _swin(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Other forms of what mmpretrain computes, and the channels of 2x2 patches in its order."""
    found = {}
    for name, value in weights.items():
        if name.endswith(('.attn_mask', '.relative_position_index')):
            continue
        if '.downsample.' in name:  # [.., 4 C]: place, channel to channel, place
            value = value.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :].mT.flatten(-2)
        found[name] = value
        if name.endswith('.relative_position_bias_table'):
            place = name.replace('bias_table', 'index')
            found[place] = _relative_positions(round((len(value) ** 0.5 + 1) / 2))
    return found


def _relative_positions(size: int) -> Tensor:
    """Number of the offset between each two of the tokens of a window [size * size, the same]."""
    places = torch.stack(torch.meshgrid(*2 * [torch.arange(size)], indexing='ij')).flatten(1)
    offsets = places[:, :, None] - places[:, None] + size - 1
    return offsets[0] * (2 * size - 1) + offsets[1]

"""The layout of the checkpoints that the paper's authors publish, and how it becomes ours.

Theirs: ``{'net': {'backbone.*', 'auxiliary_classifier.*'}, 'acc', 'epoch', 'optimizer'}``, or for
plain teachers of older repositories ``{'state_dict' or 'model': backbone keys only}``. Branch l
of theirs is ``block_extractor{l}`` with its stages in order, followed by ``fc{l}``.
"""

import re
from collections.abc import Callable, Mapping

from torch import Tensor

from hsakd.registry import MODELS

from .checkpoint import describe_mismatch, with_counters
from .errors import CheckpointError

_WIDE = dict(type='hsakd.CIFARResNet', stem_channels=32, base_channels=64)
#: Config of the backbone of each network, and the channels that its head takes.
NETWORKS: dict[str, tuple[dict, int]] = {
    'wrn-40-2': (dict(type='hsakd.WideResNet', depth=40, widen_factor=2), 128),
    'wrn-40-1': (dict(type='hsakd.WideResNet', depth=40, widen_factor=1), 64),
    'wrn-16-2': (dict(type='hsakd.WideResNet', depth=16, widen_factor=2), 128),
    'resnet20': (dict(type='hsakd.CIFARResNet', depth=20), 64),
    'resnet56': (dict(type='hsakd.CIFARResNet', depth=56), 64),
    'resnet8x4': (dict(_WIDE, depth=8), 256),
    'resnet32x4': (dict(_WIDE, depth=32), 256),
    'vgg13': (dict(type='hsakd.CIFARVGG'), 512),
    'mobilenet-v2': (dict(type='hsakd.CIFARMobileNetV2'), 1280),
    'shufflenet-v1': (dict(type='hsakd.CIFARShuffleNetV1'), 960),
    'shufflenet-v2': (dict(type='hsakd.CIFARShuffleNetV2'), 1024),
    'resnet50': (dict(type='mmpretrain.ResNet_CIFAR', depth=50), 2048),
    'resnet18': (dict(type='mmpretrain.ResNet', depth=18), 512),
    'resnet34': (dict(type='mmpretrain.ResNet', depth=34), 512),
}


def convert_official(checkpoint: Mapping, where: str = 'checkpoint') -> dict:
    """A checkpoint in the authors' layout as one of ours.

    Args:
        checkpoint: As read from the file.
        where: What to call it in messages.

    Returns:
        ``state_dict`` of a :class:`~hsakd.models.BranchedClassifier` (without branches where there
        are none) and ``meta`` with ``network`` and ``model``, the config that it loads into.

    Raises:
        CheckpointError: No such layout, no such network, or keys that do not fit it exactly.
    """
    theirs = _official_state_dict(checkpoint, where)
    with_branches = any(key.startswith('auxiliary_classifier.') for key in theirs)
    heads = [w for key, w in theirs.items() if re.fullmatch(_HEAD + 'weight', key) and w.ndim == 2]
    num_classes, in_channels = heads[0].shape if heads else (0, 0)
    mismatches = []
    for name, (_, channels) in NETWORKS.items():
        if channels != in_channels or not num_classes:
            continue
        renamed = {_rename(key, name): value for key, value in theirs.items()}
        config = network_config(name, num_classes, with_branches)
        wanted = MODELS.build(config).state_dict()
        mismatch = describe_mismatch(wanted, renamed)
        if not mismatch:
            state_dict = {key: renamed[key] for key in wanted}
            return dict(state_dict=state_dict, meta=dict(network=name, model=config))
        fitting = sum(k in wanted and wanted[k].shape == v.shape for k, v in renamed.items())
        if fitting:
            mismatches.append((len(wanted) + len(renamed) - 2 * fitting, name, mismatch))
    found = f'keys such as {", ".join(list(theirs)[:3])}'
    if mismatches:
        _, name, mismatch = min(mismatches)
        found = f'what is closest to {name}, but {mismatch}'
    raise CheckpointError.expected(where, f'one of the networks {", ".join(NETWORKS)}', found)


def network_config(name: str, num_classes: int, branches: bool) -> dict:
    """Model config of one of :data:`NETWORKS`."""
    backbone, in_channels = NETWORKS[name]
    config = dict(
        type='hsakd.BranchedClassifier',
        backbone=dict(backbone),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(
            type='mmpretrain.LinearClsHead',
            num_classes=num_classes,
            in_channels=in_channels,
            loss=dict(type='mmpretrain.CrossEntropyLoss'),
        ),
    )
    if branches:
        config['branches'] = dict(type='hsakd.AuxiliaryBranches')
    return config


def _official_state_dict(checkpoint: Mapping, where: str) -> dict[str, Tensor]:
    """The weights, with keys ``backbone.*`` and ``auxiliary_classifier.*``."""
    parts = checkpoint if isinstance(checkpoint, Mapping) else {}
    weights = next((parts[k] for k in ('net', 'state_dict', 'model') if k in parts), None)
    CheckpointError.check(
        isinstance(weights, Mapping),
        where,
        "{'net': weights}, or {'state_dict': weights} or {'model': weights} of a plain network",
        ', '.join(map(str, list(parts)[:4])) or type(checkpoint).__name__,
    )
    # Where a network, or a part of it, was trained in several processes.
    weights = {re.sub(r'\bmodule\.', '', str(key)): value for key, value in weights.items()}
    foreign = [key for key, value in weights.items() if not isinstance(value, Tensor)]
    CheckpointError.check(weights and not foreign, where, 'tensors as its weights', foreign[:3])
    CheckpointError.check(
        'head.fc.weight' not in weights, where, "the authors' keys", 'head.fc.weight, a key of ours'
    )
    if not any(key.startswith('backbone.') for key in weights):
        weights = {f'backbone.{key}': value for key, value in weights.items()}
    return with_counters(weights)


#: A pattern at which a key is changed, and what it becomes there.
Rule = tuple[str, str | Callable[[re.Match], str]]


def _rename(key: str, network: str) -> str:
    """One of their keys as ours, as if it were of ``network``."""
    for pattern, replacement in (*_COMMON, *_RULES[NETWORKS[network][0]['type']]):
        key = re.sub(pattern, replacement, key)
    return key


_HEAD = r'backbone\.(fc|linear|classifier)\.'
_COMMON: tuple[Rule, ...] = (
    (f'^{_HEAD}', 'head.fc.'),
    # NAME{l} or NAME_{l}, with l from 1
    (r'^auxiliary_classifier\.(\w+?)_?(\d)\.', lambda m: f'branches.{int(m[2]) - 1}.{m[1]}.'),
    (r'^branches\.(\d)\.fc\.', r'joint_heads.\1.fc.'),
)
_LAYERS: Rule = (r'^backbone\.(?:layer|block)(\d)\.', lambda m: f'backbone.stages.{int(m[1]) - 1}.')
_STEM: Rule = (r'^backbone\.(conv|bn)1\.', r'backbone.stem.\1.')
_SHORTCUT: Rule = (r'\.shortcut\.', '.downsample.')


def _stages(number: int) -> Rule:
    """Position i in branch l is stage l+1+i; that of the last branch is stage L again."""
    return (
        r'^branches\.(\d)\.block_extractor\.(\d)\.',
        lambda m: f'branches.{m[1]}.stage{min(int(m[1]) + 2 + int(m[2]), number)}.',
    )


def _shufflenet_v2_unit(m: re.Match) -> str:
    """In the first unit of a stage 1, 2 are the shortcut and 3 to 5 the main way, else 1 to 3."""
    unit, layer, position = m[1], m[2], int(m[3]) - 1
    if unit == '0':
        ours = f'shortcut.{position}' if position < 2 else f'main.{position - 2}'
    else:
        ours = f'main.{position}'
    return f'{unit}.{ours}.{layer}.'


def _shufflenet_v2_tail(m: re.Match) -> str:
    """After the stages of a branch, 2, 1 and 1, come convolution and norm."""
    layer = 'conv' if int(m[2]) == max(2 - int(m[1]), 1) else 'bn'
    return f'branches.{m[1]}.tail.{layer}.'


# Convolution groups 4 and 5 are one stage of ours; 0, 1, 3, 4 in a group are conv, bn, conv, bn.
_VGG_POSITIONS = {0: (1, 4, 7, 9), 1: (1, 4, 6), 2: (1, 3), 3: (0, 2)}


def _vgg_layer(group: int, position: int) -> str:
    index = 1 + position // 3 + (2 if group == 5 else 0)
    return f'{index}.{"bn" if position % 3 else "conv"}.'


def _vgg_branch(m: re.Match) -> str:
    branch, position = int(m[1]), int(m[2])
    positions = _VGG_POSITIONS.get(branch, ())
    if position not in positions:
        return m[0]
    group = positions.index(position) + min(branch + 2, 4)
    return f'branches.{branch}.stage{min(group, 4)}.{_vgg_layer(group, int(m[3]))}'


#: Our stage of each block group of MobileNetV2 and the group's first block in it, and the first
#: block group in each branch.
_MOBILENET_GROUPS = {0: (0, 0), 1: (0, 1), 2: (1, 0), 3: (2, 0), 4: (2, 4), 5: (3, 0), 6: (3, 3)}
_MOBILENET_BRANCHES = {0: 2, 1: 3, 2: 5, 3: 5}


def _mobilenet_block(m: re.Match) -> str:
    branch = None if m[1] is None else int(m[1])
    group = int(m[2]) + _MOBILENET_BRANCHES.get(branch, 0)
    stage, first = _MOBILENET_GROUPS.get(group, (group, 0))
    place = 'backbone.stages.' if branch is None else f'branches.{branch}.stage'
    return f'{place}{stage + (branch is not None)}.{first + int(m[3])}.conv.'


#: By the type of the backbone.
_RULES: dict[str, tuple[Rule, ...]] = {
    'hsakd.WideResNet': (
        _stages(3),
        (r'^backbone\.conv1\.', 'backbone.stem.'),
        (r'^backbone\.bn1\.', 'backbone.tail.0.'),
        (r'^(branches\.\d)\.bn\.', r'\1.tail.0.'),
        _LAYERS,
        (r'\.layer\.', '.'),
        (r'\.convShortcut\.', '.shortcut.'),
    ),
    'hsakd.CIFARResNet': (_stages(3), _SHORTCUT),
    'mmpretrain.ResNet_CIFAR': (_stages(4), _SHORTCUT),
    'mmpretrain.ResNet': (_stages(4), _SHORTCUT),
    'hsakd.CIFARVGG': (
        (
            r'^backbone\.block(\d)\.(\d)\.',
            lambda m: f'backbone.stages.{min(int(m[1]), 3)}.{_vgg_layer(int(m[1]) + 1, int(m[2]))}',
        ),
        (r'^branches\.(\d)\.block_extractor\.(\d)\.(\d)\.', _vgg_branch),
    ),
    'hsakd.CIFARMobileNetV2': (
        (r'\.conv1\.(?=[01]\.)', '.stem.'),
        (r'\.conv2\.(?=[01]\.)', '.tail.'),
        (r'\.(stem|tail)\.0\.', r'.\1.conv.'),
        (r'\.(stem|tail)\.1\.', r'.\1.bn.'),
        (
            r'^(?:backbone\.blocks|branches\.(\d)\.block_extractor)\.(\d)\.(\d)\.conv\.',
            _mobilenet_block,
        ),
        *(
            (rf'(?<=\d)\.conv\.{position}\.', f'.{layer}.{kind}.')
            for first, layer in ((0, 'expand'), (3, 'depthwise'), (6, 'project'))
            for position, kind in ((first, 'conv'), (first + 1, 'bn'))
        ),
    ),
    'hsakd.CIFARShuffleNetV1': (
        _STEM,
        _LAYERS,
        _stages(3),
        (r'(?<=\d)\.(conv|bn)1\.', r'.compress.\1.'),
        (r'(?<=\d)\.(conv|bn)2\.', r'.depthwise.\1.'),
        (r'(?<=\d)\.(conv|bn)3\.', r'.expand.\1.'),
    ),
    'hsakd.CIFARShuffleNetV2': (
        _STEM,
        (r'^backbone\.(conv|bn)2\.', r'backbone.tail.\1.'),
        _LAYERS,
        (r'^branches\.(\d)\.block_extractor\.(\d)\.(?!\d+\.)', _shufflenet_v2_tail),
        _stages(3),
        (r'(?<=\.)(\d)\.(conv|bn)(\d)\.', _shufflenet_v2_unit),
    ),
}

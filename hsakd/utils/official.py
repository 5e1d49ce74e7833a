"""The layout of the checkpoints that the paper's authors publish, and how it becomes ours.

Theirs: ``{'net': {'backbone.*', 'auxiliary_classifier.*'}, 'acc', 'epoch', 'optimizer'}``, or for
plain teachers of older repositories ``{'state_dict' or 'model': backbone keys only}``. Branch l
of theirs is ``block_extractor{l}`` with its stages in order, followed by ``fc{l}``.
"""

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from hsakd.models.networks import BranchedClassifier
from hsakd.registry import MODELS

from .checkpoint import describe_mismatch
from .errors import CheckpointError

#: Config of the backbone of each network, and the channels that its head takes.
NETWORKS: dict[str, tuple[dict, int]] = {
    'wrn-40-2': (dict(type='hsakd.WideResNet', depth=40, widen_factor=2), 128),
    'wrn-40-1': (dict(type='hsakd.WideResNet', depth=40, widen_factor=1), 64),
    'wrn-16-2': (dict(type='hsakd.WideResNet', depth=16, widen_factor=2), 128),
    'resnet20': (dict(type='hsakd.CIFARResNet', depth=20), 64),
    'resnet56': (dict(type='hsakd.CIFARResNet', depth=56), 64),
    'resnet8x4': (dict(type='hsakd.CIFARResNet', depth=8, stem_channels=32, base_channels=64), 256),
    'resnet32x4': (
        dict(type='hsakd.CIFARResNet', depth=32, stem_channels=32, base_channels=64),
        256,
    ),
    'vgg13': (dict(type='hsakd.CIFARVGG'), 512),
    'mobilenet-v2': (dict(type='hsakd.CIFARMobileNetV2'), 1280),
    'shufflenet-v1': (dict(type='hsakd.CIFARShuffleNetV1'), 960),
    'shufflenet-v2': (dict(type='hsakd.CIFARShuffleNetV2'), 1024),
    'resnet50': (dict(type='mmpretrain.ResNet_CIFAR', depth=50), 2048),
    'resnet18': (dict(type='mmpretrain.ResNet', depth=18), 512),
    'resnet34': (dict(type='mmpretrain.ResNet', depth=34), 512),
}


def convert_official(checkpoint: Mapping) -> dict:
    """A checkpoint in the authors' layout as one of ours.

    Args:
        checkpoint: As read from the file.

    Returns:
        ``state_dict`` of a :class:`~hsakd.models.BranchedClassifier` (without branches where there
        are none) and ``meta`` with ``network`` and ``model``, the config that it loads into.

    Raises:
        CheckpointError: No such layout, no such network, or keys that do not fit it exactly.
    """
    theirs = _official_state_dict(checkpoint)
    with_branches = any(key.startswith('auxiliary_classifier.') for key in theirs)
    heads = [w for key, w in theirs.items() if re.fullmatch(_HEAD + 'weight', key) and w.ndim == 2]
    if not heads or len(heads[0]) == 0:
        raise _unknown(theirs)
    num_classes, in_channels = heads[0].shape
    mismatches = []
    # Those whose head takes as many channels come first, since networks take a while to build.
    for name in sorted(NETWORKS, key=lambda name: NETWORKS[name][1] != in_channels):
        renamed = {_rename(key, name): value for key, value in theirs.items()}
        config = network_config(name, num_classes, with_branches)
        network: BranchedClassifier = MODELS.build(config)
        wanted = network.state_dict()
        mismatch = describe_mismatch(wanted, renamed)
        if not mismatch:
            return dict(
                state_dict={key: renamed[key] for key in wanted},
                meta=dict(network=name, model=config),
            )
        fitting = sum(k in wanted and wanted[k].shape == v.shape for k, v in renamed.items())
        if fitting:
            mismatches.append((len(wanted) + len(renamed) - 2 * fitting, name, mismatch))
    if not mismatches:
        raise _unknown(theirs)
    _, name, mismatch = min(mismatches)
    raise CheckpointError(f'closest to {name}, but {mismatch}')


def _unknown(weights: Mapping[str, Tensor]) -> CheckpointError:
    return CheckpointError(
        f'none of the known networks has keys such as {", ".join(list(weights)[:3])}; accepted '
        f'are {", ".join(NETWORKS)}'
    )


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


def _official_state_dict(checkpoint: Mapping) -> dict[str, Tensor]:
    """The weights, with keys ``backbone.*`` and ``auxiliary_classifier.*``."""
    weights = next(
        (
            checkpoint[key]
            for key in ('net', 'state_dict', 'model')
            if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(key), Mapping)
        ),
        None,
    )
    if weights is None:
        found = type(checkpoint).__name__
        if isinstance(checkpoint, Mapping):
            found = ', '.join(map(str, list(checkpoint)[:4])) or 'nothing'
        raise CheckpointError(
            f"found {found}; accepted are {{'net': weights, ...}} with or without branches, and "
            "{'state_dict': ...} or {'model': ...} of a plain network"
        )
    # Where a network, or a part of it, was trained in several processes.
    weights = {re.sub(r'\bmodule\.', '', str(key)): value for key, value in weights.items()}
    if not weights:
        raise CheckpointError('found no weights in it; accepted are those of a network')
    if not all(isinstance(value, Tensor) for value in weights.values()):
        raise CheckpointError('not all of its weights are tensors')
    if 'head.fc.weight' in weights:
        raise CheckpointError('found head.fc.weight: the keys are those of hsakd already')
    if not any(key.startswith('backbone.') for key in weights):
        weights = {f'backbone.{key}': value for key, value in weights.items()}
    # Files from before PyTorch 0.4.1 lack these; batch norm with a fixed momentum never reads them.
    for name in [name for name in weights if name.endswith('.running_mean')]:
        weights.setdefault(
            f'{name.removesuffix("running_mean")}num_batches_tracked', torch.tensor(0)
        )
    return weights


#: A pattern at which a key is changed, and what it becomes there.
Rule = tuple[str, str | Callable[[re.Match], str]]


def _rename(key: str, network: str) -> str:
    """One of their keys as ours, as if it were of ``network``."""
    for pattern, replacement in (*_COMMON, *_RULES[network]):
        key = re.sub(pattern, replacement, key)
    return key


def _stages(number: int) -> Rule:
    """Position i in ``block_extractor{l}`` is stage l+1+i; that of the last branch stage L."""
    return (
        r'^auxiliary_classifier\.block_extractor(\d)\.(\d)\.',
        lambda m: f'branches.{int(m[1]) - 1}.stage{min(int(m[1]) + 1 + int(m[2]), number)}.',
    )


def _tail(name: str, ours: str) -> Rule:
    """``auxiliary_classifier.{name}{l}`` is the tail of branch l."""
    return (
        rf'^auxiliary_classifier\.{name}(\d)\.',
        lambda m: f'branches.{int(m[1]) - 1}.tail.{ours}',
    )


def _conv_bn(position: int | str, ours: str) -> tuple[Rule, Rule]:
    """``conv{position}`` and ``bn{position}`` of a block are those of one of our modules."""
    return (
        (rf'(?<=\d)\.conv{position}\.', f'.{ours}.conv.'),
        (rf'(?<=\d)\.bn{position}\.', f'.{ours}.bn.'),
    )


_HEAD = r'backbone\.(fc|linear|classifier)\.'
_COMMON: tuple[Rule, ...] = (
    (f'^{_HEAD}', 'head.fc.'),
    (r'^auxiliary_classifier\.fc(\d)\.', lambda m: f'joint_heads.{int(m[1]) - 1}.fc.'),
)
_LAYER: Rule = (r'^backbone\.layer(\d)\.', lambda m: f'backbone.stages.{int(m[1]) - 1}.')
_STEM: tuple[Rule, ...] = (
    (r'^backbone\.conv1\.', 'backbone.stem.conv.'),
    (r'^backbone\.bn1\.', 'backbone.stem.bn.'),
)

_RESNET = ((r'\.shortcut\.', '.downsample.'),)

_WIDE_RESNET = (
    _stages(3),
    (r'^backbone\.conv1\.', 'backbone.stem.'),
    (r'^backbone\.bn1\.', 'backbone.tail.0.'),
    (r'^backbone\.block(\d)\.', lambda m: f'backbone.stages.{int(m[1]) - 1}.'),
    _tail('bn', '0.'),
    (r'\.layer\.', '.'),
    (r'\.convShortcut\.', '.shortcut.'),
)

_SHUFFLENET_V1 = (
    *_STEM,
    _LAYER,
    _stages(3),
    *_conv_bn(1, 'compress'),
    *_conv_bn(2, 'depthwise'),
    *_conv_bn(3, 'expand'),
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
    """After the 3 - l stages of branch l (one, for the last) come convolution and norm."""
    branch, position = int(m[1]), int(m[2])
    layer = 'conv' if position == max(3 - branch, 1) else 'bn'
    return f'branches.{branch - 1}.tail.{layer}.'


_SHUFFLENET_V2 = (
    *_STEM,
    (r'^backbone\.conv2\.', 'backbone.tail.conv.'),
    (r'^backbone\.bn2\.', 'backbone.tail.bn.'),
    _LAYER,
    (r'^auxiliary_classifier\.block_extractor(\d)\.(\d)\.(?!\d+\.)', _shufflenet_v2_tail),
    _stages(3),
    (r'(?<=\.)(\d)\.(conv|bn)(\d)\.', _shufflenet_v2_unit),
)

# Convolution groups 4 and 5 are one stage of ours; 0, 1, 3, 4 in a group are conv, bn, conv, bn.
_VGG_POSITIONS = {1: (1, 4, 7, 9), 2: (1, 4, 6), 3: (1, 3), 4: (0, 2)}


def _vgg_layer(group: int, position: int) -> str:
    index = 1 + position // 3 + (2 if group == 5 else 0)
    return f'{index}.{"bn" if position % 3 else "conv"}.'


def _vgg_branch(m: re.Match) -> str:
    branch, position = int(m[1]), int(m[2])
    positions = _VGG_POSITIONS.get(branch, ())
    if position not in positions:
        return m[0]
    group = positions.index(position) + min(branch + 1, 4)
    return f'branches.{branch - 1}.stage{min(group, 4)}.' + _vgg_layer(group, int(m[3]))


_VGG = (
    (
        r'^backbone\.block(\d)\.(\d)\.',
        lambda m: f'backbone.stages.{min(int(m[1]), 3)}.' + _vgg_layer(int(m[1]) + 1, int(m[2])),
    ),
    (r'^auxiliary_classifier\.block_extractor(\d)\.(\d)\.(\d)\.', _vgg_branch),
)

#: Our stage of each block group of MobileNetV2, and the group's first block in it.
_MOBILENET_GROUPS = {0: (0, 0), 1: (0, 1), 2: (1, 0), 3: (2, 0), 4: (2, 4), 5: (3, 0), 6: (3, 3)}
#: The first block group in each branch.
_MOBILENET_BRANCHES = {1: 2, 2: 3, 3: 5, 4: 5}
_MOBILENET_LAYERS = {
    0: 'expand.conv', 1: 'expand.bn', 3: 'depthwise.conv', 4: 'depthwise.bn', 6: 'project.conv',
    7: 'project.bn',
}  # fmt: skip


def _mobilenet_block(group: int, block: int) -> tuple[int, int]:
    stage, first = _MOBILENET_GROUPS.get(group, (group, 0))
    return stage, first + block


def _mobilenet_backbone(m: re.Match) -> str:
    stage, block = _mobilenet_block(int(m[1]), int(m[2]))
    return f'backbone.stages.{stage}.{block}.conv.'


def _mobilenet_branch(m: re.Match) -> str:
    first_group = _MOBILENET_BRANCHES.get(int(m[1]), 0)
    stage, block = _mobilenet_block(first_group + int(m[2]), int(m[3]))
    return f'branches.{int(m[1]) - 1}.stage{stage + 1}.{block}.conv.'


_CONV_BN = {'0': 'conv', '1': 'bn'}
_MOBILENET_V2 = (
    (r'^backbone\.conv1\.([01])\.', lambda m: f'backbone.stem.{_CONV_BN[m[1]]}.'),
    (r'^backbone\.conv2\.([01])\.', lambda m: f'backbone.tail.{_CONV_BN[m[1]]}.'),
    (r'^backbone\.blocks\.(\d)\.(\d)\.conv\.', _mobilenet_backbone),
    (
        r'^auxiliary_classifier\.conv2_(\d)\.([01])\.',
        lambda m: f'branches.{int(m[1]) - 1}.tail.{_CONV_BN[m[2]]}.',
    ),
    (r'^auxiliary_classifier\.block_extractor(\d)\.(\d)\.(\d)\.conv\.', _mobilenet_branch),
    (r'(?<=\d)\.conv\.([013467])\.', lambda m: f'.{_MOBILENET_LAYERS[int(m[1])]}.'),
)

_RULES: dict[str, tuple[Rule, ...]] = {
    'wrn-40-2': _WIDE_RESNET,
    'wrn-40-1': _WIDE_RESNET,
    'wrn-16-2': _WIDE_RESNET,
    'resnet20': (_stages(3), *_RESNET),
    'resnet56': (_stages(3), *_RESNET),
    'resnet8x4': (_stages(3), *_RESNET),
    'resnet32x4': (_stages(3), *_RESNET),
    'vgg13': _VGG,
    'mobilenet-v2': _MOBILENET_V2,
    'shufflenet-v1': _SHUFFLENET_V1,
    'shufflenet-v2': _SHUFFLENET_V2,
    'resnet50': (_stages(4), *_RESNET),
    'resnet18': (_stages(4), *_RESNET),
    'resnet34': (_stages(4), *_RESNET),
}

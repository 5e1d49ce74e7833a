import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from typing import NamedTuple

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from hsakd.utils.errors import ConfigError


@dataclass(frozen=True)
class Stages:
    """A backbone taken apart; the modules are the backbone's own, not copies.

    The backbone computes ``tail(stages[-1](...stages[0](stem(images))))``.

    Attributes:
        stem: Images [N, 3, H, W] to the input of the first stage.
        stages: Each from the map of the one before to its own map [N, C_l, H_l, W_l].
        channels: C_L, of the last stage.
        tail: What the backbone does after its last stage: that stage's map to the map or embedding
            that it returns.
        taps_stem: Whether the stem's map is one of those that methods tap.
        pieces: The layers of each stage, in groups after each of which methods tap; by default
            one group a stage.
        following_norms: Where maps are raw, as in pre-activation networks, the norm that follows
            each stage.
    """

    stem: Callable[[Tensor], Tensor]
    stages: Sequence[nn.Module]
    channels: int
    tail: nn.Module = field(default_factory=nn.Identity)
    taps_stem: bool = True
    pieces: Sequence[Sequence[nn.Module]] = ()
    following_norms: Sequence[nn.Module] = ()


class Features(NamedTuple):
    """What a pass through a backbone gives.

    Attributes:
        stage_maps: The map of every stage, from which branches start.
        maps: The maps that methods tap (f0, f1, ... in the literature): of the stem, the stages,
            and within stages where the family says so.
        pre_activations: For each of ``maps`` what enters its last ReLU. Of f0, and where there is
            none, it is the map itself; of pre-activation networks the output of the norm that
            follows.
        outputs: What ``backbone(images)`` returns.
    """

    stage_maps: Sequence[Tensor]
    maps: tuple[Tensor, ...]
    pre_activations: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def _unknown(backbone: nn.Module) -> ConfigError:
    return ConfigError.expected(
        "branches.type='AuxiliaryBranches'",
        'a backbone whose stages are known: a subclass of hsakd.models.backbones.StagedBackbone, a '
        'family of mmpretrain in docs/extending.md, or one registered with the functions of '
        "hsakd.models.backbones.stages; for any other type='ConvBranches'",
        f'a {type(backbone).__name__}',
    )


@singledispatch
def split_stages(backbone: BaseModule) -> Stages:
    """The stages of ``backbone``, with what comes before and after them.

    Raises:
        ConfigError: Its family is not registered.
    """
    raise _unknown(backbone)


@singledispatch
def repeat_last_stage(backbone: BaseModule) -> nn.Module:
    """A fresh last stage at stride 1, with as many input as output channels.

    Raises:
        ConfigError: The family of ``backbone`` is not registered.
    """
    raise _unknown(backbone)


def find_stages(backbone: BaseModule) -> Stages | None:
    """The stages of ``backbone``; None where its family is not registered."""
    if split_stages.dispatch(type(backbone)) is split_stages.dispatch(object):
        return None
    return split_stages(backbone)


def run_stages(
    backbone: BaseModule,
    images: Tensor,
    parts: Stages | None = None,
    pre_activations: bool = False,
) -> Features:
    """Run a backbone stage by stage.

    The stages of an unknown family are those whose maps it returns.

    Args:
        backbone: Of any family.
        images: [N, 3, H, W].
        parts: Of :func:`find_stages`, where they are known already.
        pre_activations: Whether these are asked for.

    Raises:
        ConfigError: Pre-activations are asked for, of an unknown family.
    """
    parts = parts or find_stages(backbone)
    if parts is None:
        ConfigError.check(
            not pre_activations,
            'model.*.backbone.type',
            'a backbone of a family whose stages are known (docs/extending.md), since the method '
            'taps what enters their last ReLU',
            type(backbone).__name__,
        )
        maps = backbone(images)
        return Features(maps, tuple(maps), (), maps)
    run = run_before_relu if pre_activations else _run_plain
    x = parts.stem(images)
    tapped = [(x, x)] if parts.taps_stem else []
    stage_maps = []
    for pieces in parts.pieces or zip(parts.stages):
        for layers in pieces:
            x, pre = run(layers, x)
            tapped.append((x, pre))
        stage_maps.append(x)
    maps, before = zip(*tapped, strict=True)
    if parts.following_norms and pre_activations:
        pairs = zip(parts.following_norms, maps[1:], strict=True)
        before = (maps[0], *(norm(m) for norm, m in pairs))
    before = (maps[0], *before[1:])  # f0 is tapped in one form alone
    return Features(stage_maps, maps, before if pre_activations else (), (parts.tail(x),))


def _run_plain(module: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    out = module(x)
    return out, out


@singledispatch
def run_before_relu(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The output of layers, and what enters the ReLU that they end with (else the output again).

    Blocks that end with a ReLU register themselves here.
    """
    return _run_plain(module, x)


@run_before_relu.register
def _(module: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
    if not len(module):
        return x, x
    *first, last = module
    for layer in first:
        x = layer(x)
    return run_before_relu(last, x)


@run_before_relu.register
def _(module: nn.ReLU, x: Tensor) -> tuple[Tensor, Tensor]:
    return F.relu(x), x  # not in place, since x is asked for


@run_before_relu.register
def _(module: ConvModule, x: Tensor) -> tuple[Tensor, Tensor]:
    if not (module.with_activation and isinstance(module.activate, nn.ReLU)):
        return _run_plain(module, x)
    x = module(x, activate=False)
    return F.relu(x), x


def fresh_copy(module: nn.Module) -> nn.Module:
    """A copy with weights of its own, drawn as the constructors of its layers draw them.

    Parameters that are no layer's, e.g. the scale of a block, keep the constant they have. All of
    them learn, also where those of ``module`` are frozen.
    """
    return copy.deepcopy(module).requires_grad_(True).apply(_redraw)


def _redraw(module: nn.Module) -> None:
    if hasattr(module, 'reset_parameters'):
        module.reset_parameters()
    elif isinstance(module, ConvModule):
        module.init_weights()


def settings_of(backbone: BaseModule) -> BaseModule:
    """An object with class and settings of ``backbone`` and no modules.

    Methods that make or initialize modules run on it without touching the backbone.
    """
    settings = copy.copy(backbone)
    settings.__dict__['_modules'] = {}
    settings.__dict__['_parameters'] = copy.deepcopy(backbone._parameters)
    return settings


def check_outputs(backbone: BaseModule, last: int) -> None:
    """Check that what ``backbone`` returns ends with its last output, number ``last``.

    Raises:
        ConfigError: It does not, and so the head would take something else than the tail gives.
    """
    ConfigError.check(
        backbone.out_indices[-1] % (last + 1) == last,
        f'backbone.out_indices of {type(backbone).__name__}',
        f'with branches that they end with {last}, its last output, as by default',
        tuple(backbone.out_indices),
    )


def repeat_blocks(stage: nn.Sequential) -> nn.Module:
    """A fresh copy of ``stage`` whose first block is made as the second.

    Where blocks differ only in what changes width and resolution, that is the stage at stride 1
    with as many input as output channels.

    Raises:
        ConfigError: There is no second block.
    """
    ConfigError.check(
        len(stage) > 1,
        "branches.type='AuxiliaryBranches'",
        "two or more blocks in the last stage of this family, or type='ConvBranches'",
        f'one {type(stage[0]).__name__}, which changes width and resolution',
    )
    _, second, *others = stage
    return fresh_copy(nn.Sequential(copy.deepcopy(second), second, *others))

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import singledispatch

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
    """

    stem: Callable[[Tensor], Tensor]
    stages: Sequence[nn.Module]
    channels: int
    tail: nn.Module = field(default_factory=nn.Identity)


def _unknown(backbone: nn.Module) -> ConfigError:
    return ConfigError(
        f"branches.type='AuxiliaryBranches': the stages of a {type(backbone).__name__} are not "
        'known; accepted are subclasses of hsakd.models.backbones.StagedBackbone, the families of '
        'mmpretrain that docs/extending.md lists, and those registered with the functions of '
        "hsakd.models.backbones.stages; for any other backbone use type='ConvBranches'"
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
    backbone: BaseModule, images: Tensor, parts: Stages | None = None
) -> tuple[Sequence[Tensor], tuple[Tensor, ...]]:
    """The feature map of every stage, and what ``backbone(images)`` returns.

    The stages of an unknown family are those whose maps it returns.

    Args:
        backbone: Of any family.
        images: [N, 3, H, W].
        parts: Of :func:`find_stages`, where they are known already.
    """
    parts = parts or find_stages(backbone)
    if parts is None:
        maps = backbone(images)
        return maps, maps
    x = parts.stem(images)
    maps = []
    for stage in parts.stages:
        x = stage(x)
        maps.append(x)
    return maps, (parts.tail(x),)


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

    Methods that make or initialise modules run on it without touching the backbone.
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
    if backbone.out_indices[-1] % (last + 1) != last:
        raise ConfigError(
            f'backbone.out_indices={tuple(backbone.out_indices)} of {type(backbone).__name__}: '
            f'accepted with branches are those that end with {last}, its last output, as they do '
            'by default'
        )


def repeat_blocks(stage: nn.Sequential) -> nn.Module:
    """A fresh copy of ``stage`` whose first block is made as the second.

    Where blocks differ only in what changes width and resolution, that is the stage at stride 1
    with as many input as output channels.

    Raises:
        ConfigError: There is no second block.
    """
    if len(stage) == 1:
        raise ConfigError(
            f"branches.type='AuxiliaryBranches': the last stage has one {type(stage[0]).__name__} "
            'only, which changes width and resolution; accepted are backbones of this family with '
            "two or more there, or type='ConvBranches'"
        )
    _, second, *others = stage
    return fresh_copy(nn.Sequential(copy.deepcopy(second), second, *others))

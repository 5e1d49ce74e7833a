"""How the stages of a backbone are made again, for the auxiliary branches.

Each function has one implementation per backbone family. Another family joins with ``register``::

    @make_stage.register
    def _(backbone: MyBackbone, index: int, in_channels: int, stride: int) -> nn.Module: ...
"""

from functools import singledispatch

from mmengine.model import BaseModule
from mmpretrain.models.backbones import ResNet
from torch import nn

from hsakd.utils.errors import ConfigError

from .base import StagedBackbone


def _unknown(backbone: nn.Module) -> ConfigError:
    return ConfigError(
        f'branches cannot be made from a {type(backbone).__name__}: accepted are '
        'subclasses of hsakd.models.backbones.StagedBackbone, mmpretrain ResNets, and families '
        'registered with the functions of hsakd.models.backbones.stages'
    )


@singledispatch
def stage_channels(backbone: BaseModule) -> list[int]:
    """Channels that each stage of ``backbone`` gives."""
    raise _unknown(backbone)


@singledispatch
def make_stage(backbone: BaseModule, index: int, in_channels: int, stride: int) -> nn.Module:
    """A fresh stage ``index`` (from 0) of the kind ``backbone`` has."""
    raise _unknown(backbone)


@singledispatch
def make_tail(backbone: BaseModule) -> nn.Module:
    """A fresh copy of what ``backbone`` does between its last stage and pooling."""
    return nn.Identity()


@singledispatch
def expose_stages(backbone: BaseModule) -> None:
    """Make ``backbone`` return every stage's feature map, and last what the head takes."""
    raise _unknown(backbone)


@stage_channels.register
def _(backbone: StagedBackbone) -> list[int]:
    return backbone.stage_channels


@make_stage.register
def _(backbone: StagedBackbone, index: int, in_channels: int, stride: int) -> nn.Module:
    return backbone.make_stage(index, in_channels, stride)


@make_tail.register
def _(backbone: StagedBackbone) -> nn.Module:
    return backbone.make_tail()


@expose_stages.register
def _(backbone: StagedBackbone) -> None:
    backbone.out_indices = tuple(range(len(backbone.stage_channels) + 1))


@stage_channels.register
def _(backbone: ResNet) -> list[int]:
    width = backbone.base_channels * backbone.expansion
    return [width * 2**i for i in range(backbone.num_stages)]


@make_stage.register
def _(backbone: ResNet, index: int, in_channels: int, stride: int) -> nn.Module:
    return backbone.make_res_layer(
        block=backbone.block,
        num_blocks=backbone.stage_blocks[index],
        in_channels=in_channels,
        out_channels=stage_channels(backbone)[index],
        expansion=backbone.expansion,
        stride=stride,
        dilation=backbone.dilations[index],
        style=backbone.style,
        avg_down=backbone.avg_down,
        with_cp=backbone.with_cp,
        conv_cfg=backbone.conv_cfg,
        norm_cfg=backbone.norm_cfg,
    )


@expose_stages.register
def _(backbone: ResNet) -> None:
    backbone.out_indices = tuple(range(backbone.num_stages))

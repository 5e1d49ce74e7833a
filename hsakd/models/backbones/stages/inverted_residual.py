"""MobileNetV2, MobileNetV3 and EfficientNet: inverted residuals, then a 1x1 convolution.

The layers up to stride 4 are the first stage; each further stage begins at a layer that halves the
resolution, so that there are four, at strides 4, 8, 16 and 32. The 1x1 convolution is the tail.
At stride 1 the first layer of the last stage takes as many channels as the stage gives; only that
layer is made anew, by the family's own rules.
"""

from collections.abc import Sequence

from mmengine.model import Sequential
from mmpretrain.models.backbones import EfficientNet, MobileNetV2, MobileNetV3
from mmpretrain.models.utils import InvertedResidual
from torch import nn

from .interface import (
    Stages,
    check_outputs,
    fresh_copy,
    repeat_last_stage,
    settings_of,
    split_stages,
)


def _by_resolution(layers: Sequence[nn.Module], strides: Sequence[int]) -> list[nn.Module]:
    """Stages of the layers that follow a stem of stride 2."""
    stages: dict[int, list[nn.Module]] = {}
    total = 2
    for layer, stride in zip(layers, strides, strict=True):
        total *= stride
        stages.setdefault(max(total, 4), []).append(layer)
    return [Sequential(*layers) for layers in stages.values()]


@split_stages.register
def _(backbone: MobileNetV2) -> Stages:
    check_outputs(backbone, len(backbone.layers) - 1)
    *layers, tail = (getattr(backbone, name) for name in backbone.layers)
    strides = [stride for *_, stride in backbone.arch_settings]
    return Stages(
        stem=backbone.conv1,
        stages=_by_resolution(layers, strides),
        channels=backbone.in_channels,
        tail=tail,
    )


@repeat_last_stage.register
def _(backbone: MobileNetV2) -> nn.Module:
    first, *others = split_stages(backbone).stages[-1]
    expand_ratio = backbone.arch_settings[-1 - len(others)][0]
    # Made for backbone.in_channels, which are those of the last stage.
    layer = settings_of(backbone).make_layer(
        out_channels=first[-1].conv[-1].out_channels,
        num_blocks=len(first),
        stride=1,
        expand_ratio=expand_ratio,
    )
    return Sequential(layer, *map(fresh_copy, others))


@split_stages.register
def _(backbone: MobileNetV3) -> Stages:
    check_outputs(backbone, len(backbone.layers) - 1)
    stem, *layers, tail = (getattr(backbone, name) for name in backbone.layers)
    settings = backbone.arch_settings[backbone.arch]
    return Stages(
        stem=stem,
        stages=_by_resolution(layers, [stride for *_, stride in settings]),
        channels=settings[-1][2],
        tail=tail,
    )


@repeat_last_stage.register
def _(backbone: MobileNetV3) -> nn.Module:
    parts = split_stages(backbone)
    _, *others = parts.stages[-1]
    settings = backbone.arch_settings[backbone.arch]
    kernel_size, mid_channels, out_channels, with_se, act, _ = settings[-1 - len(others)]
    gate = dict(type='HSigmoid', bias=3, divisor=6, min_value=0, max_value=1)
    block = InvertedResidual(
        in_channels=parts.channels,
        out_channels=out_channels,
        mid_channels=mid_channels,
        kernel_size=kernel_size,
        stride=1,
        se_cfg=dict(channels=mid_channels, ratio=4, act_cfg=(dict(type='ReLU'), gate))
        if with_se
        else None,
        conv_cfg=backbone.conv_cfg,
        norm_cfg=backbone.norm_cfg,
        act_cfg=dict(type=act),
        with_cp=backbone.with_cp,
    )
    return Sequential(block, *map(fresh_copy, others))


@split_stages.register
def _(backbone: EfficientNet) -> Stages:
    check_outputs(backbone, len(backbone.layers) - 1)
    stem, *layers, tail = backbone.layers
    strides = [blocks[0][3] for blocks in backbone.layer_setting[1:-1]]
    return Stages(
        stem=stem,
        stages=_by_resolution(layers, strides),
        channels=backbone.in_channels,
        tail=tail,
    )


@repeat_last_stage.register
def _(backbone: EfficientNet) -> nn.Module:
    (last,) = split_stages(backbone).stages[-1]
    stem, *_, (first_block, *_), tail = backbone.layer_setting
    kernel_size, channels, se_ratio, _, expand_ratio, kind = first_block
    # Made for backbone.in_channels, which are those of the last stage.
    settings = settings_of(backbone)
    settings.layer_setting = [
        stem,
        [[kernel_size, channels, se_ratio, 1, expand_ratio, kind]],
        tail,
    ]
    settings.layers = nn.ModuleList()
    settings.make_layer()
    block = settings.layers[0][0]
    block.drop_path = fresh_copy(last[0].drop_path)
    return Sequential(Sequential(block, *map(fresh_copy, last[1:])))

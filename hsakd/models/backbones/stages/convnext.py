"""ConvNeXt (V1 and V2): four stages at strides 4, 8, 16 and 32.

Each but the first begins with its downsampling layer, which a last stage at stride 1 leaves out.
The tail is what the backbone returns its last map through: the norm, with the pooling before it if
``gap_before_final_norm``. Earlier maps are tapped without a norm.
"""

from mmengine.model import Sequential
from mmpretrain.models.backbones import ConvNeXt
from torch import nn

from .interface import Stages, check_outputs, fresh_copy, repeat_last_stage, split_stages


@split_stages.register
def _(backbone: ConvNeXt) -> Stages:
    last = backbone.num_stages - 1
    check_outputs(backbone, last)
    stem, *downsample_layers = backbone.downsample_layers
    first, *others = backbone.stages
    norm = getattr(backbone, f'norm{last}')
    if backbone.gap_before_final_norm:
        norm = nn.Sequential(nn.AdaptiveAvgPool2d(1), norm, nn.Flatten())
    return Stages(
        stem=stem,
        stages=[first, *map(Sequential, downsample_layers, others)],
        channels=backbone.channels[-1],
        tail=norm,
    )


@repeat_last_stage.register
def _(backbone: ConvNeXt) -> nn.Module:
    return fresh_copy(backbone.stages[-1])

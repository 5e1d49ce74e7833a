"""VGG without fully connected layers: five stages, of convolutions and the max pool after them.

They are those of ``out_indices``, at strides 2, 4, 8, 16 and 32. At stride 1 the last one has no
max pool. There is no tail.
"""

from mmpretrain.models.backbones import VGG
from torch import nn

from hsakd.utils.errors import ConfigError

from .interface import Stages, check_outputs, fresh_copy, repeat_last_stage, split_stages


@split_stages.register
def _(backbone: VGG) -> Stages:
    ConfigError.check(
        backbone.num_classes <= 0,
        'backbone.num_classes of VGG',
        '-1 (the default) with branches, without fully connected layers; the head has the classes',
        backbone.num_classes,
    )
    check_outputs(backbone, len(backbone.stage_blocks) - 1)
    ranges = backbone.range_sub_modules
    return Stages(
        stem=nn.Identity(),
        stages=[backbone.features[start:end] for start, end in ranges],
        channels=backbone.in_channels,
    )


@repeat_last_stage.register
def _(backbone: VGG) -> nn.Module:
    last = split_stages(backbone).stages[-1]
    return fresh_copy(nn.Sequential(*(m for m in last if not isinstance(m, nn.MaxPool2d))))

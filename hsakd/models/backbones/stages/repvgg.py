"""RepVGG: the four stages of ``out_indices``, at strides 4, 8, 16 and 32.

The pyramid pooling that ``add_ppf`` puts behind the last stage is part of it. There is no tail.
"""

from mmengine.model import Sequential
from mmpretrain.models.backbones import RepVGG
from torch import nn

from .interface import Stages, check_outputs, fresh_copy, repeat_last_stage, split_stages


@split_stages.register
def _(backbone: RepVGG) -> Stages:
    check_outputs(backbone, len(backbone.stages) - 1)
    *stages, last = (getattr(backbone, name) for name in backbone.stages)
    return Stages(
        stem=backbone.stem,
        stages=[*stages, Sequential(last, backbone.ppf)],
        channels=last[-1].out_channels,
    )


@repeat_last_stage.register
def _(backbone: RepVGG) -> nn.Module:
    *earlier, num_blocks = backbone.arch['num_blocks']
    channels = split_stages(backbone).channels
    stage, _ = backbone._make_stage(
        channels,
        channels,
        num_blocks,
        stride=1,
        dilation=backbone.dilations[-1],
        next_create_block_idx=1 + sum(earlier),
        init_cfg=backbone.init_cfg,
    )
    return Sequential(stage, fresh_copy(backbone.ppf))

"""Our networks for 32x32 images, and users' own: the stages are those of ``StagedBackbone``."""

from torch import nn

from ..base import StagedBackbone
from .interface import Stages, check_outputs, repeat_last_stage, split_stages


@split_stages.register
def _(backbone: StagedBackbone) -> Stages:
    check_outputs(backbone, len(backbone.stages))
    return Stages(
        backbone.stem,
        backbone.stages,
        backbone.stage_channels[-1],
        backbone.tail,
        taps_stem=backbone.taps_stem,
        pieces=backbone.tapped_pieces(),
        following_norms=backbone.following_norms(),
    )


@repeat_last_stage.register
def _(backbone: StagedBackbone) -> nn.Module:
    last = len(backbone.stage_channels) - 1
    return backbone.make_stage(last, backbone.stage_channels[last], stride=1)

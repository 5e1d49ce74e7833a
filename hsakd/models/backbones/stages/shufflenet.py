"""ShuffleNetV1 and V2: three stages of units, at strides 8, 16 and 32.

The tail of V2 is its last 1x1 convolution, ``layers[3]``; V1 has none. A last stage at stride 1 has
the units that both families have at stride 1 throughout.
"""

import torch
import torch.nn.functional as F
from mmpretrain.models.backbones import ShuffleNetV1, ShuffleNetV2
from mmpretrain.models.utils import channel_shuffle
from torch import Tensor, nn

from ..shufflenet_v1 import ShuffleUnit
from ..shufflenet_v2 import ShuffleUnitV2
from .interface import (
    Stages,
    check_outputs,
    repeat_blocks,
    repeat_last_stage,
    run_before_relu,
    split_stages,
)


@split_stages.register(ShuffleNetV1)
@split_stages.register(ShuffleNetV2)
def _(backbone: ShuffleNetV1 | ShuffleNetV2) -> Stages:
    check_outputs(backbone, len(backbone.layers) - 1)
    return Stages(
        stem=nn.Sequential(backbone.conv1, backbone.maxpool),
        stages=backbone.layers[:3],
        channels=backbone.in_channels,
        tail=nn.Sequential(*backbone.layers[3:]) if len(backbone.layers) > 3 else nn.Identity(),
    )


@repeat_last_stage.register(ShuffleNetV1)
@repeat_last_stage.register(ShuffleNetV2)
def _(backbone: ShuffleNetV1 | ShuffleNetV2) -> nn.Module:
    return repeat_blocks(backbone.layers[2])


@run_before_relu.register
def _(unit: ShuffleUnit, x: Tensor) -> tuple[Tensor, Tensor]:
    out = unit.before_relu(x)
    return F.relu(out), out


@run_before_relu.register
def _(unit: ShuffleUnitV2, x: Tensor) -> tuple[Tensor, Tensor]:
    """Only the new half ends with a ReLU."""
    passed, filtered = (unit.shortcut(x), x) if unit.first else x.chunk(2, dim=1)
    halves = run_before_relu(unit.main, filtered)
    out, before = (channel_shuffle(torch.cat([passed, half], 1), 2) for half in halves)
    return out, before

"""How the layers of a network start: as those of the networks that the paper's authors published.

Norms start at weight 1 and bias 0, as torch makes them. A user's own ``init_cfg`` comes before all
of this, and a checkpoint before that.
"""

from typing import NamedTuple

from mmpretrain.models.backbones import ResNet, ResNet_CIFAR
from torch import nn

#: Convolutions, grouped ones too: N(0, sqrt(2 / (k * k * out channels))), biases 0.
NORMAL = dict(type='Kaiming', layer='Conv2d')
#: Linear layers: U(-1 / sqrt(fan in), 1 / sqrt(fan in)) as torch draws them, but biases 0.
ZERO_BIAS = dict(
    type='Kaiming',
    layer='Linear',
    a=5**0.5,
    mode='fan_in',
    nonlinearity='leaky_relu',
    distribution='uniform',
)
#: Linear layers: N(0, 0.01), biases 0.
SMALL = dict(type='Normal', layer='Linear', std=0.01)


class StartingWeights(NamedTuple):
    """The ``init_cfg`` of each part of a network; None keeps what torch draws for a new layer."""

    backbone: dict | None = NORMAL
    head: dict | None = None
    branches: dict | None = NORMAL
    joint_heads: dict | None = None


def starting_weights(backbone: nn.Module) -> StartingWeights:
    """How the network that has ``backbone`` starts.

    They are the attribute ``starting_weights`` of its class. mmpretrain's ``ResNet`` and
    ``ResNet_CIFAR`` start as the authors'; all its others, and heads on them, as it starts them.
    """
    known = type(backbone) in (ResNet, ResNet_CIFAR)
    default = StartingWeights() if known else StartingWeights(None, SMALL, None)
    return getattr(backbone, 'starting_weights', default)

from torch import nn

from hsakd.registry import MODELS
from hsakd.utils.errors import ConfigError

from .base import StagedBackbone, conv_bn
from .starting_weights import SMALL, StartingWeights

#: Convolutions in each of the five groups
CONVOLUTIONS = {8: 1, 13: 2}


@MODELS.register_module()
class CIFARVGG(StagedBackbone):
    """VGG-13 or VGG-8 with batch norm for 32x32 images, without fully connected layers.

    Four stages: convolution groups 1, 2, 3, and 4 with 5 together, since nothing is pooled between
    the last two. Each stage but the first begins with a 2x2 max pool (which is its stride).

    Args:
        depth: 13 with two convolutions a group, 8 with one.
        in_channels: Channels of the images.
        **kwargs: Of :class:`StagedBackbone`.
    """

    strides = (1, 2, 2, 2)
    starting_weights = StartingWeights(head=SMALL, branches=None)
    taps_stem = False  # there is none

    def __init__(self, depth: int = 13, in_channels: int = 3, **kwargs) -> None:
        depths = list(CONVOLUTIONS)
        ConfigError.check(depth in depths, 'depth of CIFARVGG', f'one of {depths}', depth)
        self.convolutions = CONVOLUTIONS[depth]
        super().__init__(
            stem=nn.Identity(),
            stem_channels=in_channels,
            stage_channels=[64, 128, 256, 512],
            **kwargs,
        )

    def make_stage(self, index: int, in_channels: int, stride: int) -> nn.Module:
        """Max pool of size ``stride``, then the convolutions of one stage."""
        groups = 2 if index == len(self.stage_channels) - 1 else 1
        out_channels = self.stage_channels[index]
        layers = [nn.MaxPool2d(stride) if stride > 1 else nn.Identity()]
        for _ in range(groups * self.convolutions):
            layers.append(conv_bn(in_channels, out_channels, 3, bias=True))
            in_channels = out_channels
        return nn.Sequential(*layers)

    def tapped_pieces(self) -> list[tuple[nn.Module, ...]]:
        """The five convolution groups, of which the last two are one stage."""
        *stages, last = self.stages
        middle = 1 + self.convolutions  # behind the max pool
        return [*((stage,) for stage in stages), (last[:middle], last[middle:])]

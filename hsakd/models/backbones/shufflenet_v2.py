import torch
from mmpretrain.models.utils import channel_shuffle
from torch import Tensor, nn

from hsakd.registry import MODELS

from .base import StagedBackbone, conv_bn
from .starting_weights import StartingWeights


class ShuffleUnitV2(nn.Module):
    """One half of the channels passes, the other is filtered; then both are shuffled.

    The first unit of a stage filters all channels in both ways and so changes width and size.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, first: bool) -> None:
        super().__init__()
        self.first = first
        half = out_channels // 2
        main_in = in_channels if first else half
        if first:
            self.shortcut = nn.Sequential(
                conv_bn(in_channels, in_channels, 3, stride, groups=in_channels, relu=False),
                conv_bn(in_channels, half),
            )
        self.main = nn.Sequential(
            conv_bn(main_in, half),
            conv_bn(half, half, 3, stride, groups=half, relu=False),
            conv_bn(half, half),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] to [N, C_out, H / stride, W / stride]."""
        passed, filtered = (self.shortcut(x), x) if self.first else x.chunk(2, dim=1)
        return channel_shuffle(torch.cat([passed, self.main(filtered)], 1), 2)


@MODELS.register_module()
class CIFARShuffleNetV2(StagedBackbone):
    """ShuffleNetV2 at width 1 (https://arxiv.org/abs/1807.11164) for 32x32 images.

    The stem is a 1x1 convolution to 24 channels, without max pool; the tail a 1x1 convolution to
    1024.

    Args:
        in_channels: Channels of the images.
        **kwargs: Of :class:`StagedBackbone`.
    """

    strides = (2, 2, 2)
    starting_weights = StartingWeights(backbone=None, branches=None)
    num_blocks = (4, 8, 4)

    def __init__(self, in_channels: int = 3, **kwargs) -> None:
        super().__init__(
            stem=conv_bn(in_channels, 24),
            stem_channels=24,
            stage_channels=[116, 232, 464],
            **kwargs,
        )

    def make_stage(self, index: int, in_channels: int, stride: int) -> nn.Module:
        """Units of one stage; the first has ``stride``."""
        out_channels = self.stage_channels[index]
        return nn.Sequential(
            ShuffleUnitV2(in_channels, out_channels, stride, first=True),
            *(
                ShuffleUnitV2(out_channels, out_channels, 1, first=False)
                for _ in range(1, self.num_blocks[index])
            ),
        )

    def make_tail(self) -> nn.Module:
        """1x1 convolution to 1024 channels."""
        return conv_bn(self.stage_channels[-1], 1024)

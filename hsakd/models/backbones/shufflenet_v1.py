import torch
from mmpretrain.models.utils import channel_shuffle
from torch import Tensor, nn

from hsakd.registry import MODELS

from .base import StagedBackbone, conv_bn
from .starting_weights import ZERO_BIAS, StartingWeights


class ShuffleUnit(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1, and the input.

    At stride 2 the pooled input is concatenated, else the input is added.
    Differs from mmpretrain's unit in the ReLU after the depthwise convolution, in the width of the
    unit at stride 2, and in not shuffling where the first convolution has one group.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, groups: int) -> None:
        super().__init__()
        self.stride = stride
        new_channels = out_channels - in_channels if stride == 2 else out_channels
        mid = new_channels // 4
        # The 24 channels of the stem are too few to group.
        self.groups = 1 if in_channels == 24 else groups
        self.compress = conv_bn(in_channels, mid, groups=self.groups)
        self.depthwise = conv_bn(mid, mid, 3, stride, groups=mid)
        self.expand = conv_bn(mid, new_channels, groups=groups, relu=False)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] to [N, C_out, H / stride, W / stride]."""
        return self.relu(self.before_relu(x))

    def before_relu(self, x: Tensor) -> Tensor:
        """What enters the last ReLU."""
        out = channel_shuffle(self.compress(x), self.groups)
        out = self.expand(self.depthwise(out))
        return torch.cat([out, self.pool(x)], 1) if self.stride == 2 else out + x


@MODELS.register_module()
class CIFARShuffleNetV1(StagedBackbone):
    """ShuffleNetV1 with 3 groups (https://arxiv.org/abs/1707.01083) for 32x32 images.

    The stem is a 1x1 convolution to 24 channels, without max pool.

    Args:
        in_channels: Channels of the images.
        **kwargs: Of :class:`StagedBackbone`.
    """

    strides = (2, 2, 2)
    starting_weights = StartingWeights(backbone=None, joint_heads=ZERO_BIAS)
    num_blocks = (4, 8, 4)
    groups = 3

    def __init__(self, in_channels: int = 3, **kwargs) -> None:
        super().__init__(
            stem=conv_bn(in_channels, 24),
            stem_channels=24,
            stage_channels=[240, 480, 960],
            **kwargs,
        )

    def make_stage(self, index: int, in_channels: int, stride: int) -> nn.Module:
        """Units of one stage; the first has ``stride``."""
        out_channels = self.stage_channels[index]
        return nn.Sequential(
            ShuffleUnit(in_channels, out_channels, stride, self.groups),
            *(
                ShuffleUnit(out_channels, out_channels, 1, self.groups)
                for _ in range(1, self.num_blocks[index])
            ),
        )

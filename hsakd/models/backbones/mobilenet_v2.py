from torch import Tensor, nn

from hsakd.registry import MODELS

from .base import StagedBackbone, conv_bn
from .starting_weights import SMALL, StartingWeights

#: (expansion, output channels at full width, blocks) of each block group
GROUPS = (
    (1, 16, 1),
    (6, 24, 2),
    (6, 32, 3),
    (6, 64, 4),
    (6, 96, 3),
    (6, 160, 3),
    (6, 320, 1),
)
#: The block groups of each stage
STAGES = ((0, 1), (2,), (3, 4), (5, 6))


class InvertedResidual(nn.Module):
    """Expand, filter depthwise, project linearly; expands also where the expansion is 1."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expand = conv_bn(in_channels, hidden)
        self.depthwise = conv_bn(hidden, hidden, 3, stride, groups=hidden)
        self.project = conv_bn(hidden, out_channels, relu=False)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] to [N, C_out, H / stride, W / stride]."""
        out = self.project(self.depthwise(self.expand(x)))
        return x + out if self.residual else out


@MODELS.register_module()
class CIFARMobileNetV2(StagedBackbone):
    """MobileNetV2 for 32x32 images: first convolution and second block group at stride 1.

    Differs from mmpretrain's ``MobileNetV2`` in these strides, in the unrounded channels at half
    width, in the expansion layer of the first group, and in ReLU for ReLU6.

    Args:
        widen_factor: Width of the block groups; the tail has 1280 channels at any width.
        stem_stride: Of the first convolution; 2, as in RepDistiller's tables, halves all maps.
        in_channels: Channels of the images.
        **kwargs: Of :class:`StagedBackbone`.
    """

    strides = (1, 2, 2, 2)
    starting_weights = StartingWeights(head=SMALL, joint_heads=SMALL)

    def __init__(
        self, widen_factor: float = 0.5, stem_stride: int = 1, in_channels: int = 3, **kwargs
    ) -> None:
        self.widths = [int(c * widen_factor) for _, c, _ in GROUPS]
        stem_channels = int(32 * widen_factor)
        super().__init__(
            stem=conv_bn(in_channels, stem_channels, 3, stem_stride),
            stem_channels=stem_channels,
            stage_channels=[self.widths[groups[-1]] for groups in STAGES],
            **kwargs,
        )

    def make_stage(self, index: int, in_channels: int, stride: int) -> nn.Module:
        """Block groups of one stage; the first block has ``stride``."""
        blocks = []
        for group in STAGES[index]:
            expansion, _, num_blocks = GROUPS[group]
            for _ in range(num_blocks):
                blocks.append(InvertedResidual(in_channels, self.widths[group], stride, expansion))
                stride = 1
                in_channels = self.widths[group]
        return nn.Sequential(*blocks)

    def make_tail(self) -> nn.Module:
        """1x1 convolution to 1280 channels."""
        return conv_bn(self.stage_channels[-1], 1280)

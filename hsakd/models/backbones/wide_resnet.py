from torch import Tensor, nn

from hsakd.registry import MODELS
from hsakd.utils.errors import ConfigError

from .base import StagedBackbone
from .starting_weights import ZERO_BIAS, StartingWeights


class PreActBlock(nn.Module):
    """Pre-activation residual block.

    Where width or size changes, the shortcut is a 1x1 convolution of the activated input.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = None
        if in_channels != out_channels or stride != 1:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] to [N, C_out, H / stride, W / stride]."""
        out = self.relu(self.bn1(x))
        identity = x if self.shortcut is None else self.shortcut(out)
        out = self.conv2(self.relu(self.bn2(self.conv1(out))))
        return identity + out


@MODELS.register_module()
class WideResNet(StagedBackbone):
    """Wide ResNet for 32x32 images (https://arxiv.org/abs/1605.07146), WRN-depth-width.

    Three stages, tapped at the raw block outputs; the tail is their BN + ReLU.

    Args:
        depth: 6n + 4, with n blocks a stage.
        widen_factor: Stages have 16, 32 and 64 times as many channels.
        in_channels: Channels of the images.
        **kwargs: Of :class:`StagedBackbone`.
    """

    strides = (1, 2, 2)
    starting_weights = StartingWeights(head=ZERO_BIAS, joint_heads=ZERO_BIAS)

    def __init__(self, depth: int, widen_factor: int, in_channels: int = 3, **kwargs) -> None:
        ConfigError.check(
            depth >= 10 and depth % 6 == 4, 'depth of WideResNet', '6n + 4: 10, 16, 22, ..', depth
        )
        self.num_blocks = (depth - 4) // 6
        super().__init__(
            stem=nn.Conv2d(in_channels, 16, 3, padding=1, bias=False),
            stem_channels=16,
            stage_channels=[c * widen_factor for c in (16, 32, 64)],
            **kwargs,
        )

    def make_stage(self, index: int, in_channels: int, stride: int) -> nn.Module:
        """Blocks of one stage; the first has ``stride``."""
        out_channels = self.stage_channels[index]
        return nn.Sequential(
            PreActBlock(in_channels, out_channels, stride),
            *(PreActBlock(out_channels, out_channels, 1) for _ in range(1, self.num_blocks)),
        )

    def following_norms(self) -> list[nn.Module]:
        """The first batch norm of the next stage, or that of the tail."""
        return [*(stage[0].bn1 for stage in self.stages[1:]), self.tail[0]]

    def make_tail(self) -> nn.Module:
        """BN + ReLU."""
        return nn.Sequential(nn.BatchNorm2d(self.stage_channels[-1]), nn.ReLU(inplace=True))

from collections import OrderedDict

from torch import nn

from hsakd.registry import MODELS

from .base import StagedBackbone


def _conv_bn_relu(in_channels: int, out_channels: int) -> nn.Module:
    # Not mmcv's ConvModule, which warns of the bias that these networks have before batch norm.
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_channels, out_channels, 3, padding=1),
            bn=nn.BatchNorm2d(out_channels),
            relu=nn.ReLU(inplace=True),
        )
    )


@MODELS.register_module()
class CIFARVGG(StagedBackbone):
    """VGG-13 with batch norm for 32x32 images, without fully connected layers.

    Four stages: convolution groups 1, 2, 3, and 4 with 5 together, since nothing is pooled between
    the last two. Each stage but the first begins with a 2x2 max pool (which is its stride).
    """

    strides = (1, 2, 2, 2)
    taps_stem = False  # there is none

    def __init__(self, **kwargs) -> None:
        super().__init__(
            stem=nn.Identity(), stem_channels=3, stage_channels=[64, 128, 256, 512], **kwargs
        )

    def make_stage(self, index: int, in_channels: int, stride: int) -> nn.Module:
        """Max pool of size ``stride``, then the convolutions of one stage."""
        num_convs = 4 if index == len(self.stage_channels) - 1 else 2
        out_channels = self.stage_channels[index]
        layers = [nn.MaxPool2d(stride) if stride > 1 else nn.Identity()]
        for i in range(num_convs):
            layers.append(_conv_bn_relu(in_channels if i == 0 else out_channels, out_channels))
        return nn.Sequential(*layers)

    def tapped_pieces(self) -> list[tuple[nn.Module, ...]]:
        """The five convolution groups, of which the last two are one stage."""
        *stages, last = self.stages
        return [*((stage,) for stage in stages), (last[:3], last[3:])]

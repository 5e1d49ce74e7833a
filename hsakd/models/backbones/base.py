from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Sequence

from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn

from hsakd.utils.errors import ConfigError

from .starting_weights import StartingWeights


def conv_bn(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
    relu: bool = True,
) -> nn.Module:
    """A padded convolution, batch norm and ReLU; without initial weights of its own."""
    padding = kernel_size // 2
    layers = OrderedDict(
        conv=nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias
        ),
        bn=nn.BatchNorm2d(out_channels),
    )
    if relu:
        layers['relu'] = nn.ReLU(inplace=True)
    return nn.Sequential(layers)


class StagedBackbone(BaseBackbone):
    """A backbone that is a stem, a list of stages, and a tail before pooling.

    A subclass says how to make a stage; the auxiliary branches make theirs in the same way.

    Args:
        stem: Image to the input of the first stage.
        stem_channels: Channels that the stem gives.
        stage_channels: Channels that each stage gives.
        out_indices: Which outputs :meth:`forward` returns: ``0 .. L-1`` are those of the L stages,
            ``L`` is that of the tail. Negative ones count from the end.
        init_cfg: Initial weights of backbone and branches, instead of ``starting_weights``.
    """

    #: Stride of each stage; set by subclasses.
    strides: Sequence[int]
    #: Initial weights of networks with this backbone.
    starting_weights = StartingWeights()
    #: Whether methods tap the map of the stem.
    taps_stem = True

    def __init__(
        self,
        stem: nn.Module,
        stem_channels: int,
        stage_channels: Sequence[int],
        out_indices: Sequence[int] = (-1,),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg or self.starting_weights.backbone)
        num_outputs = len(stage_channels) + 1
        ConfigError.check(
            all(-num_outputs <= i < num_outputs for i in out_indices),
            f'out_indices of {type(self).__name__}',
            f'numbers from 0..{num_outputs - 2} (stages) and {num_outputs - 1} or -1 (tail)',
            tuple(out_indices),
        )
        self.stem_channels = stem_channels
        self.stage_channels = list(stage_channels)
        self.out_indices = tuple(out_indices)
        self.stem = stem
        in_channels = [stem_channels, *stage_channels[:-1]]
        self.stages = nn.ModuleList(
            self.make_stage(i, in_channels[i], self.strides[i]) for i in range(len(stage_channels))
        )
        self.tail = self.make_tail()

    @abstractmethod
    def make_stage(self, index: int, in_channels: int, stride: int) -> nn.Module:
        """A fresh stage ``index`` (from 0) for ``in_channels`` at ``stride``."""

    def tapped_pieces(self) -> Sequence[Sequence[nn.Module]]:
        """Layers of each stage, in groups after each of which methods tap."""
        return [(stage,) for stage in self.stages]

    def following_norms(self) -> Sequence[nn.Module]:
        """The norm that follows each stage of a pre-activation network."""
        return ()

    def make_tail(self) -> nn.Module:
        """A fresh copy of what follows the last stage, before pooling; by default nothing."""
        return nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Feature maps [N, C_l, H_l, W_l] at ``out_indices`` for images [N, C, H, W]."""
        x = self.stem(x)
        outs = []
        for stage in self.stages:
            x = stage(x)
            outs.append(x)
        outs.append(self.tail(x))
        return tuple(outs[i] for i in self.out_indices)

    def train(self, mode: bool = True) -> 'StagedBackbone':
        """Set the mode and return self, as torch does and mmpretrain's base class does not."""
        super().train(mode)
        return self

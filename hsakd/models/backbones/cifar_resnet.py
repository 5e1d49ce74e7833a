from mmpretrain.models.backbones import ResNet_CIFAR
from mmpretrain.models.backbones.resnet import BasicBlock

from hsakd.registry import MODELS
from hsakd.utils.errors import ConfigError

from .starting_weights import ZERO_BIAS, StartingWeights


@MODELS.register_module()
class CIFARResNet(ResNet_CIFAR):
    """The three-stage ResNet for 32x32 images of https://arxiv.org/abs/1512.03385, section 4.2.

    ResNet-20 and -56 as they are; ResNet-8x4 and -32x4 have four times the width behind a stem of
    32 channels: ``depth=8, stem_channels=32, base_channels=64``.

    Args:
        depth: 6n + 2, with n blocks a stage; one of 8, 14, 20, 32, 44, 56, 110.
        stem_channels: Channels of the first convolution.
        base_channels: Channels of the first stage, doubled at each further one.
        **kwargs: Of mmpretrain's ``ResNet_CIFAR``, such as ``in_channels`` of the images.
    """

    arch_settings = {d: (BasicBlock, ((d - 2) // 6,) * 3) for d in (8, 14, 20, 32, 44, 56, 110)}
    starting_weights = StartingWeights(joint_heads=ZERO_BIAS)

    def __init__(
        self,
        depth: int,
        stem_channels: int = 16,
        base_channels: int = 16,
        out_indices: tuple[int, ...] = (2,),
        zero_init_residual: bool = False,
        **kwargs,
    ) -> None:
        depths = list(self.arch_settings)
        ConfigError.check(depth in depths, 'depth of CIFARResNet', f'one of {depths}', depth)
        super().__init__(
            depth,
            stem_channels=stem_channels,
            base_channels=base_channels,
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=out_indices,
            zero_init_residual=zero_init_residual,
            **kwargs,
        )

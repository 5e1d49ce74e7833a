"""Fast mode on CPUs without bfloat16: operators that torch lacks or is slow at.

Importing this package registers them; they are compiled on the machine when first used. Nothing but
:mod:`hsakd.engine.acceleration` needs it.
"""

from torch import nn

from .fusion import FuseEpilogues, RecomputeMasks
from .pointwise import StridedPointwiseConv2d, supports_product
from .winograd import FrozenWinogradConv2d, WinogradConv2d, library, supports_winograd

__all__ = ['FrozenWinogradConv2d', 'StridedPointwiseConv2d', 'WinogradConv2d', 'exchange_layers']


def exchange_layers(network: nn.Module, frozen: bool = False) -> dict:
    """Exchange convolutions of a network for faster ones, with the same names and weights.

    Args:
        network: Of any kind, with its weights.
        frozen: Whether its weights never change; then they are transformed once, in place of the
            layers.

    Returns:
        Options of ``torch.compile`` that go with them.

    Raises:
        ConfigError: There is no C++ compiler.
    """
    library()
    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            if supports_winograd(layer):
                if frozen:
                    setattr(parent, name, FrozenWinogradConv2d(layer))
                else:
                    layer.__class__ = WinogradConv2d
            elif supports_product(layer):
                layer.__class__ = StridedPointwiseConv2d
    return dict(joint_custom_post_pass=RecomputeMasks(), post_grad_custom_pre_pass=FuseEpilogues())

"""1x1 convolutions with a stride, as a product of matrices."""

from torch import Tensor, nn
from torch.nn.functional import linear


def supports_product(conv: nn.Module) -> bool:
    """Whether a layer is a convolution of the kind that :class:`StridedPointwiseConv2d` is."""
    return (
        type(conv) is nn.Conv2d
        and conv.kernel_size == (1, 1)
        and conv.stride != (1, 1)
        and conv.padding == (0, 0)
        and conv.groups == 1
    )


class StridedPointwiseConv2d(nn.Conv2d):
    """A 1x1 ``Conv2d`` whose gradients oneDNN is slow at, to be set as the class of a layer.

    To be compiled, which makes one pass of taking apart and putting together.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] to [N, C_out, H / s, W / s], rounded up, at a stride of s."""
        vertical, horizontal = self.stride
        taken = x[:, :, ::vertical, ::horizontal].permute(0, 2, 3, 1)
        return linear(taken, self.weight[:, :, 0, 0], self.bias).permute(0, 3, 1, 2)

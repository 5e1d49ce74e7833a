from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor

from hsakd.registry import MODELS

from .auxiliary_branches import AuxiliaryBranches


class _DivideGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, number: int) -> Tensor:
        ctx.number = number
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient / ctx.number, None


def divide_gradient(x: Tensor, number: int = 2) -> Tensor:
    """The same values, of which the gradient is divided by ``number`` on its way back."""
    return _DivideGradient.apply(x, number)


@MODELS.register_module()
class TreeBranches(AuxiliaryBranches):
    """Three branches that with the network itself are a tree: 1 stage, then 2, then 4.

    The first stage is shared by all; the network's second one by it and the first branch, and a
    copy of it by the other two. See :class:`~hsakd.models.distillers.CLILR`.

    Args:
        backbone: The backbone to branch off, with three or more stages.
    """

    def __init__(self, backbone: BaseModule) -> None:
        super().__init__(backbone, stages=[1, 0, 1])

    def last_maps(self, feature_maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What is pooled: a map [N, C, H, W] a branch."""
        first, (stage, *rest), third = self
        second = stage(divide_gradient(feature_maps[0]))
        own, copied = divide_gradient(feature_maps[1]), divide_gradient(second)
        x = copied
        for layer in rest:
            x = layer(x)
        return first(own), x, third(copied)

"""Operators that torch lacks or is slow at, some compiled on the machine when first used."""

from .fusion import FuseEpilogues, RecomputeMasks
from .pointwise import StridedPointwiseConv2d, takes_product
from .winograd import FixedWinogradConv2d, WinogradConv2d, takes_winograd

__all__ = [
    'FixedWinogradConv2d',
    'FuseEpilogues',
    'RecomputeMasks',
    'StridedPointwiseConv2d',
    'WinogradConv2d',
    'takes_product',
    'takes_winograd',
]

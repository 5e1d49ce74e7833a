"""Operators that torch lacks, compiled on the machine when they are first used."""

from .fusion import FuseEpilogues
from .winograd import FixedWinogradConv2d, WinogradConv2d, takes_winograd

__all__ = ['FixedWinogradConv2d', 'FuseEpilogues', 'WinogradConv2d', 'takes_winograd']

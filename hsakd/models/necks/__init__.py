"""Branches: stage feature maps in, one pooled embedding a branch out."""

from .auxiliary_branches import AuxiliaryBranches
from .conv_branches import ConvBranches

__all__ = ['AuxiliaryBranches', 'ConvBranches']

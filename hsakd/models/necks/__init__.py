"""Branches: stage feature maps in, one pooled embedding a branch out."""

from .auxiliary_branches import AuxiliaryBranches
from .conv_branches import ConvBranches
from .tree_branches import TreeBranches

__all__ = ['AuxiliaryBranches', 'ConvBranches', 'TreeBranches']

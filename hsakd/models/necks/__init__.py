"""Auxiliary branches: stage feature maps in, one pooled embedding a branch out."""

from .auxiliary_branches import AuxiliaryBranches

__all__ = ['AuxiliaryBranches']

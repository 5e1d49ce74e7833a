"""Metrics of auxiliary branches, and of several networks."""

from .branch_accuracy import BranchAccuracy
from .network_accuracy import NetworkAccuracy

__all__ = ['BranchAccuracy', 'NetworkAccuracy']

"""Self-supervision transforms: how a batch is shown M times, and what the joint labels are."""

from .rotation import Rotation

__all__ = ['Rotation']

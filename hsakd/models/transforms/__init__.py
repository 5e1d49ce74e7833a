"""Self-supervision transforms: how a batch is shown M times, and what the joint labels are."""

from .color_permutation import ColorPermutation
from .combined_transforms import CombinedTransforms
from .no_transform import NoTransform
from .rotation import Rotation
from .transform_set import TransformSet

__all__ = ['ColorPermutation', 'CombinedTransforms', 'NoTransform', 'Rotation', 'TransformSet']

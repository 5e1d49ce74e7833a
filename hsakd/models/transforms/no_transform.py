from torch import Tensor

from hsakd.registry import MODELS

from .transform_set import TransformSet


@MODELS.register_module()
class NoTransform(TransformSet):
    """M = 1: images as they are. Branches then classify alone: branch-wise plain distillation."""

    num_transforms = 1
    names = ['as it is']

    def transform(self, images: Tensor, j: int) -> Tensor:
        """Return the images as they are."""
        return images

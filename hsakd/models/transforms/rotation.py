import torch
from torch import Tensor

from hsakd.registry import MODELS
from hsakd.utils.errors import ConfigError

from .transform_set import TransformSet


@MODELS.register_module()
class Rotation(TransformSet):
    """The M = 4 of the paper: rotations by 0, 90, 180 and 270 degrees, counter-clockwise."""

    num_transforms = 4
    names = ['0°', '90°', '180°', '270°']

    def transform(self, images: Tensor, j: int) -> Tensor:
        """Rotate by j quarter turns.

        Raises:
            ConfigError: The images are not square, so that rotations would have other shapes.
        """
        height, width = images.shape[2:]
        ConfigError.check(
            height == width,
            'pipeline of the data sets',
            'square images with Rotation, which turns them by 90 degrees, e.g. by '
            "dict(type='mmpretrain.Resize', scale=(32, 32))",
            f'{height}x{width}',
        )
        return torch.rot90(images, j, (2, 3))

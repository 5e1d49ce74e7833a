import torch
from torch import Tensor

from hsakd.registry import MODELS


@MODELS.register_module()
class Rotation:
    """The M = 4 self-supervision transforms of the paper: rotations by 0, 90, 180 and 270 degrees.

    Image i under rotation j is row ``4 * i + j`` of the transformed batch, and the joint label of
    class y under rotation j is ``4 * y + j``. Rotation is counter-clockwise.
    """

    num_transforms = 4

    def __call__(self, images: Tensor) -> Tensor:
        """Show every image in every transform.

        Args:
            images: [N, C, H, H]; square, so that all rotations have one shape.

        Returns:
            [4 * N, C, H, H], interleaved; rows ``[::4]`` are the images themselves.
        """
        rotated = [torch.rot90(images, j, (2, 3)) for j in range(self.num_transforms)]
        return torch.stack(rotated, dim=1).flatten(0, 1)

    def joint_labels(self, labels: Tensor) -> Tensor:
        """Labels [4 * N] over (class x rotation) for class labels [N], in the order of the rows."""
        shifts = torch.arange(self.num_transforms, device=labels.device)
        return (labels[:, None] * self.num_transforms + shifts).flatten()

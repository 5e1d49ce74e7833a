from abc import ABC, abstractmethod

import torch
from torch import Tensor


class TransformSet(ABC):
    """The M self-supervision transforms that every image is shown in.

    Image i under transform j is row ``M * i + j`` of the transformed batch, and the joint label of
    class y under transform j is ``M * y + j`` (section 3.1). Transform 0 is the image itself.

    A subclass gives ``num_transforms`` and :meth:`transform`.
    """

    #: M
    num_transforms: int

    @abstractmethod
    def transform(self, images: Tensor, j: int) -> Tensor:
        """Images [N, C, H, W] under transform ``j``, in the same shape; for 0 as they are."""

    @property
    def names(self) -> list[str]:
        """What each transform is called in pictures."""
        return [str(j) for j in range(self.num_transforms)]

    def __call__(self, images: Tensor) -> Tensor:
        """Show every image in every transform.

        Args:
            images: [N, C, H, W].

        Returns:
            [M * N, C, H, W], interleaved; rows ``[::M]`` are the images themselves.
        """
        shown = [self.transform(images, j) for j in range(self.num_transforms)]
        return torch.stack(shown, dim=1).flatten(0, 1)

    def joint_labels(self, labels: Tensor) -> Tensor:
        """Labels over (class x transform) for class labels, in the order of rows.

        Args:
            labels: [N], or scores of classes [N, K], e.g. of mixed images.

        Returns:
            [M * N]; or scores [M * N, M * K]: under transform j those of the joint labels of
            classes under j.
        """
        if labels.ndim == 2:
            same = torch.eye(self.num_transforms, dtype=labels.dtype, device=labels.device)
            scores = labels[:, None, :, None] * same[:, None]  # image, j, class, j
            return scores.flatten(0, 1).flatten(1)
        shifts = torch.arange(self.num_transforms, device=labels.device)
        return (labels[:, None] * self.num_transforms + shifts).flatten()

    def __repr__(self) -> str:
        return f'{type(self).__name__} (M={self.num_transforms})'

"""What passes between loader, preprocessor and model."""

from collections.abc import Iterator, Sequence

import torch
from mmpretrain.structures import DataSample
from torch import Tensor


class BatchedLabels:
    """The labels of a batch as one tensor, in the place of a list of mmpretrain's ``DataSample``.

    A list of 64 of them takes as long to make as all else that the host does in a step. Here they
    are made when one is first asked for, and then kept, so that what is written to one stays.

    It is no ``collections.abc.Sequence``, since mmengine's preprocessors take such apart.

    Args:
        gt_label: Class labels [N] (int64).
    """

    def __init__(self, gt_label: Tensor) -> None:
        self.gt_label = gt_label
        self._samples: list[DataSample] | None = None

    def to(self, device: torch.device | str) -> 'BatchedLabels':
        """The labels on a device; itself where they are there."""
        label = self.gt_label.to(device, non_blocking=True)
        return self if label is self.gt_label else BatchedLabels(label)

    def __len__(self) -> int:
        return len(self.gt_label)

    def __getitem__(self, index: int | slice) -> DataSample | list[DataSample]:
        if self._samples is None:
            labels = self.gt_label.split(1)
            self._samples = [DataSample().set_gt_label(label) for label in labels]
        return self._samples[index]

    def __iter__(self) -> Iterator[DataSample]:
        return iter(self[:])


def class_labels(data_samples: Sequence[DataSample] | BatchedLabels) -> Tensor:
    """Ground-truth class labels [N] of a batch."""
    if isinstance(data_samples, BatchedLabels):
        return data_samples.gt_label
    return torch.cat([sample.gt_label for sample in data_samples])


def sample_indices(data_samples: Sequence[DataSample] | BatchedLabels) -> Tensor:
    """Index [N] (int64) in its data set of each image of a batch."""
    raise NotImplementedError

"""What passes between loader, preprocessor and model."""

from collections.abc import Iterator, Sequence

import torch
from mmpretrain.structures import DataSample
from torch import Tensor

from hsakd.utils.errors import ConfigError


class BatchedLabels:
    """The labels of a batch as one tensor, in the place of a list of mmpretrain's ``DataSample``.

    A list of 64 of them takes as long to make as all else that the host does in a step. Here they
    are made when one is first asked for, and then kept, so that what is written to one stays.

    It is no ``collections.abc.Sequence``, since mmengine's preprocessors take such apart.

    Args:
        gt_label: Class labels [N] (int64).
        sample_idx: The position of each image in its data set [N] (int64).
    """

    def __init__(self, gt_label: Tensor, sample_idx: Tensor) -> None:
        self.gt_label = gt_label
        self.sample_idx = sample_idx
        self._samples: list[DataSample] | None = None

    def to(self, device: torch.device | str) -> 'BatchedLabels':
        """The labels on a device; itself where they are there."""
        label = self.gt_label.to(device, non_blocking=True)
        if label is self.gt_label:
            return self
        return BatchedLabels(label, self.sample_idx.to(device, non_blocking=True))

    def __len__(self) -> int:
        return len(self.gt_label)

    def __getitem__(self, index: int | slice) -> DataSample | list[DataSample]:
        if self._samples is None:
            self._samples = [
                DataSample(metainfo=dict(sample_idx=idx)).set_gt_label(label)
                for label, idx in zip(self.gt_label.split(1), self.sample_idx.tolist(), strict=True)
            ]
        return self._samples[index]

    def __iter__(self) -> Iterator[DataSample]:
        return iter(self[:])


def class_labels(data_samples: Sequence[DataSample] | BatchedLabels) -> Tensor:
    """Class labels [N] of a batch, or soft ones [N, K] where its samples have a ``gt_score``.

    Those of Mixup and its like are the mixture of both images' labels.
    """
    if isinstance(data_samples, BatchedLabels):
        return data_samples.gt_label
    if 'gt_score' in data_samples[0]:
        return torch.stack([sample.gt_score for sample in data_samples])
    return torch.cat([sample.gt_label for sample in data_samples])


def sample_indices(data_samples: Sequence[DataSample] | BatchedLabels) -> Tensor:
    """The position of each image in its data set [N] (int64), for methods that remember images.

    It is the same from both loaders and in every epoch, counts from 0 within a few-shot subset, and
    is on the device of the labels.

    Args:
        data_samples: Of a training batch, with labels.

    Raises:
        ConfigError: The pipeline left the positions out.
    """
    if isinstance(data_samples, BatchedLabels):
        return data_samples.sample_idx
    indices = [sample.get('sample_idx') for sample in data_samples]
    ConfigError.check(
        None not in indices,
        'train_dataloader.dataset.pipeline',
        "a PackInputs with 'sample_idx' among its meta_keys",
        'images without it',
    )
    return torch.tensor(indices, device=data_samples[0].gt_label.device)

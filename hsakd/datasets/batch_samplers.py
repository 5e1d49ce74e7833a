"""Batches of which a method asks for more than images in any order.

Random numbers are functions of the run's seed, the epoch and the process, so that a resumed run
draws the same.
"""

from collections.abc import Iterator

import numpy as np
import torch
from mmengine.dataset import ConcatDataset, RepeatDataset
from torch import Tensor
from torch.utils.data import BatchSampler, Dataset, Sampler

from hsakd.registry import DATA_SAMPLERS
from hsakd.utils.class_index import ClassIndex
from hsakd.utils.errors import ConfigError


def training_labels(dataset: Dataset) -> Tensor:
    """The class [n] of every image, by its index.

    Raises:
        ConfigError: Images have none, or several.
    """
    if isinstance(dataset, RepeatDataset):
        return training_labels(dataset.dataset)
    if isinstance(dataset, ConcatDataset):
        return torch.cat([training_labels(part) for part in dataset.datasets])
    try:
        labels = np.asarray(dataset.get_gt_labels())
    except (AttributeError, KeyError, ValueError):
        labels = np.empty((0, 0))
    found = f'none or several of {type(dataset).__name__}'
    expected = 'one gt_label an image, which the method draws images by'
    ConfigError.check(labels.ndim == 1, 'train_dataloader.dataset', expected, found)
    return torch.from_numpy(labels.astype(np.int64))


@DATA_SAMPLERS.register_module()
class RepeatedBatchSampler(BatchSampler):
    """Every image of a batch several times in a row, augmented each time anew.

    Args:
        sampler: Of single images.
        batch_size: Images, not counting repetitions.
        views: Times.
        drop_last: Leave out a last smaller batch.
    """

    def __init__(
        self, sampler: Sampler, batch_size: int, views: int, drop_last: bool = False
    ) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self.views = views

    def __iter__(self) -> Iterator[list[int]]:
        for batch in super().__iter__():
            yield [index for index in batch for _ in range(self.views)]


@DATA_SAMPLERS.register_module()
class PairBatchSampler(BatchSampler):
    """Behind the images of a batch, for each one others at random of its class, or itself.

    Args:
        sampler: Of single images, with ``dataset``, ``seed`` and ``epoch``.
        batch_size: Images, without the others.
        partners: Others for each image.
        drop_last: Leave out a last smaller batch.
    """

    def __init__(
        self, sampler: Sampler, batch_size: int, partners: int = 1, drop_last: bool = False
    ) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self.partners = partners
        self.index = ClassIndex(training_labels(sampler.dataset))

    def __iter__(self) -> Iterator[list[int]]:
        random = _random(self.sampler)
        images = len(self.index.order)
        for batch in super().__iter__():
            own = np.array(batch) % images
            yield [*batch, *self.index.same(own, random, self.partners).ravel().tolist()]


@DATA_SAMPLERS.register_module()
class ClassBatchSampler(BatchSampler):
    """Batches of several images of each of some classes, drawn at random; a class in a row.

    An epoch has as many whole batches as there are in the data.

    Args:
        sampler: As of :class:`PairBatchSampler`; its order is not used.
        batch_size: Images.
        images_per_class: Of them; classes of fewer are left out.
        drop_last: Batches are whole in any case.

    Raises:
        ConfigError: There are not enough classes.
    """

    def __init__(
        self, sampler: Sampler, batch_size: int, images_per_class: int = 2, drop_last: bool = True
    ) -> None:
        super().__init__(sampler, batch_size, drop_last=True)
        self.images_per_class = images_per_class
        self.index = ClassIndex(training_labels(sampler.dataset))
        self.groups = np.flatnonzero(self.index.counts >= images_per_class)
        few = len(self.groups) * images_per_class
        expected = f'a multiple of {images_per_class}, {few} at most: so many of each class'
        ok = batch_size % images_per_class == 0 and batch_size <= few
        ConfigError.check(ok, 'train_dataloader.batch_size', expected, batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        random, number = _random(self.sampler), self.batch_size // self.images_per_class
        for _ in range(len(self)):
            batch = []
            for group in random.choice(self.groups, number, replace=False):
                batch += self.index.of_group(group, self.images_per_class, random).tolist()
            yield batch


def _random(sampler: Sampler) -> np.random.Generator:
    place = (getattr(sampler, name, 0) or 0 for name in ('seed', 'epoch', 'rank'))
    return np.random.default_rng([*place])

"""Training data as one tensor on the device, with crop and flip of whole batches."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import LoadImageFromFile, RandomFlip, Resize
from mmengine.dataset import BaseDataset, RepeatDataset
from mmengine.dist import get_dist_info
from mmpretrain.datasets.transforms import PackInputs, RandomCrop
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from hsakd.datasets import FewShotSubset, LoadImage
from hsakd.structures import BatchedLabels
from hsakd.utils.errors import ConfigError, DataError

from .training_data import Batch, ResumableBatchSampler, label_error, num_classes, seed_of

#: Tells the random numbers of augmentation from those of an image and a step.
_IN_MEMORY = 2
#: Places in an epoch whose random numbers are drawn together.
_BLOCK = 2**16
#: Batches are made together up to so many bytes: fewer and larger operations, in the cache.
_CHUNK_BYTES = 2**20
#: Transforms without random numbers, which are run once.
_DETERMINISTIC = (LoadImage, LoadImageFromFile, Resize)


class TensorLoader:
    """Batches of a data set that lies on the device as one uint8 tensor.

    Takes the place of torch's ``DataLoader`` for ``train_dataloader.in_memory=True``. What the
    pipeline does without random numbers is done once, at the start; random crops and flips are
    operations on batches, of the same distributions as mmpretrain's on images. The random numbers
    of an image follow from the seed, the epoch and its place among the images of all ranks. They
    are drawn on the CPU, so that they are the same on any device.

    Args:
        dataset: mmpretrain's kind of data set, perhaps in a ``FewShotSubset`` or ``RepeatDataset``.
        batch_sampler: Its order, and where to start.
        seed: Of the run.
        device: Where the images lie.

    Raises:
        ConfigError: The data set or its pipeline is of another kind, or does not fit in half of the
            memory that the device has left.
        DataError: An image cannot be read or has another size than the first, or a label is beyond
            the classes.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_sampler: ResumableBatchSampler,
        seed: int,
        device: torch.device | str,
    ) -> None:
        self.dataset = dataset
        self.batch_sampler = batch_sampler
        self._seed = seed
        self._rank, self._world_size = get_dist_info()
        # Once for all times that a RepeatDataset goes through its images.
        source = dataset.dataset if isinstance(dataset, RepeatDataset) else dataset
        once, random = _split(_pipeline(source))
        images, labels = _load(source, once, torch.device(device))
        self._images, self._labels = images.to(device), labels.to(device)
        self._steps: list[_Crop | _Flip] = []
        size = images.shape[2:]
        for transform in random:
            step = _Flip(transform) if isinstance(transform, RandomFlip) else _Crop(transform, size)
            self._steps.append(step)
            size = getattr(step, 'size', size)
        self._block = lru_cache(maxsize=2)(self._draw)

    @property
    def sampler(self) -> Sampler:
        """The sampler of single images."""
        return self.batch_sampler.sampler

    @property
    def batch_size(self) -> int:
        """Images in a batch."""
        return self.batch_sampler.batch_size

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[dict]:
        """Batches from where the batch sampler starts.

        Yields:
            ``inputs`` [N, C, H, W] (uint8) and ``data_samples``, their
            :class:`~hsakd.structures.BatchedLabels`, both on the device.
        """
        together = max(1, _CHUNK_BYTES // (self._images[0].numel() * self.batch_size))
        chunk: list[Batch] = []
        for batch in self.batch_sampler:
            if chunk and (len(chunk) == together or batch.epoch != chunk[0].epoch):
                yield from self._make(chunk)
                chunk = []
            chunk.append(batch)
        if chunk:
            yield from self._make(chunk)

    def _make(self, batches: list[Batch]) -> Iterator[dict]:
        """Consecutive batches of an epoch."""
        indices = torch.tensor([index for batch in batches for index in batch])
        indices = self._to_device(indices % len(self._images))
        choices = self._choices(batches[0].epoch, batches[0].position, len(indices))
        images = self._images.index_select(0, indices)
        for step, choice in zip(self._steps, choices, strict=True):
            images = step(images, choice)
        sizes = [len(batch) for batch in batches]
        labels = self._labels.index_select(0, indices)
        for inputs, *of_batch in zip(
            *(t.split(sizes) for t in (images, labels, indices)), strict=True
        ):
            yield dict(inputs=inputs, data_samples=BatchedLabels(*of_batch))

    def _choices(self, epoch: int, position: int, number: int) -> Sequence[Tensor]:
        """What each step does to images of this rank, ``number`` of them from ``position`` on."""
        if not self._steps:
            return ()
        start = position * self._world_size + self._rank
        end = start + (number - 1) * self._world_size + 1
        first, last = start // _BLOCK, (end - 1) // _BLOCK
        blocks = [self._block(epoch, block) for block in range(first, last + 1)]
        places = slice(start - first * _BLOCK, end - first * _BLOCK, self._world_size)
        table = blocks[0] if first == last else torch.cat(blocks)
        return table[places].split([step.draws for step in self._steps], dim=1)

    def _draw(self, epoch: int, block: int) -> Tensor:
        """What each step does at the places [_BLOCK] of a block, of all ranks."""
        generator = torch.Generator().manual_seed(seed_of(self._seed, epoch, block, _IN_MEMORY))
        draws = [step.draws for step in self._steps]
        # Of double precision, by which no choice is likelier than another.
        uniform = torch.rand(_BLOCK, sum(draws), dtype=torch.float64, generator=generator)
        parts = zip(self._steps, uniform.split(draws, dim=1), strict=True)
        return self._to_device(torch.cat([step.choose(part) for step, part in parts], dim=1))

    def _to_device(self, values: Tensor) -> Tensor:
        """Copy from the host without waiting for the device."""
        if self._images.is_cuda:
            values = values.pin_memory()
        return values.to(self._images.device, non_blocking=True)


class _Crop:
    """Random crops of a batch, as mmpretrain's ``RandomCrop`` of an image.

    Attributes:
        size: Height and width of what it makes.
    """

    draws = 2

    def __init__(self, transform: RandomCrop, size: tuple[int, int]) -> None:
        padding = transform.padding or 0
        if isinstance(padding, int):
            padding = (padding,)
        left, top, right, bottom = (*padding,) * (4 // len(padding))
        self.padding = (left, right, top, bottom)  # as torch has it
        padded = size[0] + top + bottom, size[1] + left + right
        self.size = tuple(map(min, padded, transform.crop_size))
        self.offsets = torch.tensor([p - s + 1 for p, s in zip(padded, self.size, strict=True)])

    def choose(self, uniform: Tensor) -> Tensor:
        """Offsets [N, 2] of numbers [N, 2] in [0, 1)."""
        return (uniform * self.offsets).long()

    def __call__(self, images: Tensor, offsets: Tensor) -> Tensor:
        """Crop [N, C, H, W] at offsets [N, 2]: top and left."""
        padded = F.pad(images, self.padding)
        n, c, h, w = padded.shape
        height, width = self.size
        # All rows are copied by one index_select, from where each starts in memory; advanced
        # indexing does the same byte by byte, in ten times the time.
        count = partial(torch.arange, device=images.device)
        planes = count(n * c).view(n, c, 1) * (h * w)
        rows = (offsets[:, :1] + count(height)).view(n, 1, height) * w
        starts = planes + rows + offsets[:, 1].view(n, 1, 1)
        runs = padded.view(-1).unfold(0, width, 1)  # a view
        return runs.index_select(0, starts.view(-1)).view(n, c, height, width)


class _Flip:
    """Random horizontal flips of a batch, as mmcv's ``RandomFlip`` of an image."""

    draws = 1

    def __init__(self, transform: RandomFlip) -> None:
        self.prob = transform.prob

    def choose(self, uniform: Tensor) -> Tensor:
        """All bits set [N, 1] for images to flip, and none, of numbers [N, 1] in [0, 1)."""
        return -(uniform < self.prob).long()

    def __call__(self, images: Tensor, flip: Tensor) -> Tensor:
        """Flip those of [N, C, H, W] where the bits of [N, 1] are set."""
        # torch.where does the same byte by byte, in six times the time.
        difference = images.flip(3).bitwise_xor_(images)
        return difference.bitwise_and_(flip.byte().view(-1, 1, 1, 1)).bitwise_xor_(images)


def _pipeline(dataset: Dataset) -> Sequence[Callable]:
    leaf = dataset.dataset if isinstance(dataset, FewShotSubset) else dataset
    ConfigError.check(
        isinstance(leaf, BaseDataset),
        'train_dataloader.dataset.type with in_memory=True',
        "a data set of mmpretrain's kind, perhaps in a FewShotSubset or RepeatDataset "
        '(any with in_memory=False)',
        type(leaf).__name__,
    )
    return leaf.pipeline.transforms


def _split(pipeline: Sequence[Callable]) -> tuple[list[Callable], list[Callable]]:
    """The transforms that are the same for every image and epoch, and those for batches."""
    once, random = [], []
    kinds = [type(transform) for transform in pipeline]
    for index, (kind, transform) in enumerate(zip(kinds, pipeline, strict=True)):
        if kind in _DETERMINISTIC and not random:
            once.append(transform)
        elif (kind is RandomCrop and _pads_with_zeros(transform)) or (
            kind is RandomFlip
            and transform.direction == 'horizontal'
            and isinstance(transform.prob, float)
        ):
            random.append(transform)
        elif not (kind is PackInputs and index == len(pipeline) - 1):
            raise _pipeline_error(f'.{index}', transform)
    if PackInputs not in kinds:
        raise _pipeline_error('', 'no PackInputs')
    return once, random


def _pads_with_zeros(crop: RandomCrop) -> bool:
    return not crop.pad_if_needed and not np.any(crop.pad_val)


def _pipeline_error(step: str, found: object) -> ConfigError:
    return ConfigError.expected(
        f'train_dataloader.dataset.pipeline{step} with in_memory=True',
        f'{", ".join(kind.__name__ for kind in _DETERMINISTIC)} first, then RandomCrop that pads '
        'with zeros and RandomFlip in the direction horizontal, then PackInputs (any with '
        'train_dataloader.in_memory=False)',
        found,
    )


def _load(
    dataset: Dataset, transforms: Sequence[Callable], device: torch.device
) -> tuple[Tensor, Tensor]:
    """All images [n, C, H, W] and their labels [n]."""
    classes = num_classes(dataset)
    number = len(dataset)
    first, _, name = _read(dataset, transforms, classes, 0)
    _check_memory(number, first, device)
    images = first.new_empty((number, *first.shape))
    labels = torch.empty(number, dtype=torch.long)

    def read(start: int) -> None:
        for index in range(start, min(start + 256, number)):
            image, labels[index], where = _read(dataset, transforms, classes, index)
            if image.shape != first.shape:
                raise DataError.expected(
                    where,
                    f'an image of shape {tuple(first.shape)}, as {name}, by a Resize in '
                    'train_dataloader.dataset.pipeline (any with train_dataloader.in_memory=False)',
                    f'{tuple(image.shape)} (channels, height, width)',
                )
            images[index] = image

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(read, range(0, number, 256)):
            pass  # raises what reading raised
    return images, labels


def _read(
    dataset: Dataset, transforms: Sequence[Callable], classes: int | None, index: int
) -> tuple[Tensor, int, str]:
    """An image [C, H, W], its label, and its name for messages."""
    info = dataset.get_data_info(index)
    where = info.get('img_path') or f'image {index}'
    label = info.get('gt_label')
    if not isinstance(label, int | np.integer) or 'gt_score' in info:
        expected = 'one gt_label an image (others with train_dataloader.in_memory=False)'
        found = 'a gt_score' if 'gt_score' in info else repr(label)
        raise DataError.expected(where, expected, found)
    if classes is not None and not 0 <= label < classes:
        raise label_error(where, [int(label)], classes)
    for transform in transforms:
        info = transform(info)
    image = PackInputs.format_input(info['img'])
    if image.dtype != torch.uint8:
        expected = 'pixels of uint8 (others with train_dataloader.in_memory=False)'
        raise DataError.expected(where, expected, image.dtype)
    return image, int(label), where


def _check_memory(number: int, image: Tensor, device: torch.device) -> None:
    needed, free = number * image.numel(), _free_memory(device)
    ConfigError.check(
        needed <= free / 2,
        'train_dataloader.in_memory',
        'False, or fewer or smaller images',
        f'True with {number} of shape {tuple(image.shape)}: {needed / 2**20:,.0f} MiB, and '
        f'{free / 2**20:,.0f} MiB free on {device}, of which half at most',
    )


def _free_memory(device: torch.device) -> int:
    """Free memory of a device, in bytes."""
    if device.type == 'cuda':
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path('/proc/meminfo').read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if 'MemAvailable' in line) * 1024
    except OSError:  # no Linux: what there is in all
        return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')

"""The order of training data and its random numbers, as functions of the seed and the place."""

import hashlib
import os
import random
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from mmengine.dataset import ConcatDataset, RepeatDataset, default_collate
from mmengine.dist import get_dist_info
from mmengine.logging import MMLogger
from mmpretrain.structures import DataSample
from torch.utils.data import BatchSampler, Dataset, Sampler

from hsakd.registry import DATA_SAMPLERS, FUNCTIONS
from hsakd.utils.errors import ConfigError, DataError


def seed_of(*place: int) -> int:
    """A seed of 64 bits, as a function of ``place``."""
    digest = hashlib.blake2b(repr(place).encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'little')


def seed_all(*place: int) -> None:
    """Set the random states of Python, NumPy, torch and the CUDA device in use.

    Args:
        *place: What they are a function of, e.g. the seed of the run and a number of an iteration.
    """
    seed = seed_of(*place)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    # torch.manual_seed does the same for every kind of device, which takes longer than all of this.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized() and not torch.cuda._is_in_bad_fork():
        torch.cuda.manual_seed(seed)


class Batch(list):
    """Indices of the images of a batch, with the place of the first one in the data of this rank.

    Attributes:
        epoch: Times that the data were gone through before.
        position: Images of this rank that came before in this epoch.
    """

    epoch = position = 0


class ResumableBatchSampler(Sampler[Batch]):
    """Batches of another batch sampler, from any place on.

    What is skipped is drawn and not loaded, so that the batches that follow are those of a run
    without an interruption, whatever the sampler.

    Args:
        sampler: Of single images.
        batch_size: Images in a batch.
        batch_sampler: Config of the batch sampler; torch's own by default.
        drop_last: Of torch's batch sampler.
        endless: Start again at the end of the data, for loops that count iterations.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        batch_sampler: dict | None = None,
        drop_last: bool = False,
        endless: bool = False,
    ) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last
        if batch_sampler is None:
            self.batches = BatchSampler(sampler, batch_size, drop_last)
        else:
            args = dict(sampler=sampler, batch_size=batch_size)
            self.batches = DATA_SAMPLERS.build(batch_sampler, default_args=args)
        self.endless = endless
        self.start_at(0, 0)

    def start_at(self, epoch: int, batches: int) -> None:
        """Set where the next iteration over this sampler starts: batches into an epoch."""
        self._start = epoch, batches

    def __iter__(self) -> Iterator[Batch]:
        epoch, skipped = self._start
        while True:
            if hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(epoch)
            position = 0
            for indices in self.batches:
                batch = Batch(indices)
                batch.epoch, batch.position = epoch, position
                position += len(batch)
                if skipped:
                    skipped -= 1
                else:
                    yield batch
            if not self.endless:
                return
            epoch += 1

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.batches)


class SeededItems:
    """Loads the images of a :class:`Batch`, each with random numbers of its own.

    They follow from the seed and the place of the image among those of all ranks, so that its
    augmentation is the same for any number of workers and, with torch's batch sampler, of
    processes, and after a resume. To be set as ``__getitems__`` of a data set, by which torch
    loads batches, in workers and without.

    Args:
        dataset: The data set.
        seed: Of the run.
        max_bad_images: Images that may be unreadable; each is replaced by another one, at random.

    Raises:
        ConfigError: ``max_bad_images`` is no number of images.
    """

    def __init__(self, dataset: Dataset, seed: int, max_bad_images: int = 0) -> None:
        ConfigError.check(
            type(max_bad_images) is int and max_bad_images >= 0,
            'max_bad_images',
            'a number of images that may be unreadable, 0 to stop at the first one',
            repr(max_bad_images),
        )
        self.dataset = dataset
        self.seed = seed
        self.max_bad_images = max_bad_images
        self.rank, self.world_size = get_dist_info()
        if max_bad_images:  # which of them, known to all workers
            repeated = isinstance(dataset, RepeatDataset)
            images = len(dataset.dataset if repeated else dataset)
            self.bad = torch.zeros(images, dtype=torch.bool).share_memory_()
        self.num_classes = num_classes(dataset)

    def __call__(self, batch: Batch) -> list:
        """Load the images of a batch."""
        items = []
        for position, index in enumerate(batch, batch.position):
            seed_all(self.seed, batch.epoch, position * self.world_size + self.rank)
            items.append(self._load(index))
        return items

    def _load(self, index: int) -> dict:
        while True:
            try:
                item = self.dataset[index]
                break
            except DataError as error:
                if not self.max_bad_images:
                    raise DataError(f'{error}, or --cfg-options max_bad_images=N') from error
                self._count(index, error)
            index = int(np.random.randint(len(self.dataset)))
        sample = item.get('data_samples') if isinstance(item, dict) else None
        if isinstance(sample, DataSample):
            self._check_label(sample, index)
            before = _images_before(self.dataset, index)
            if before and 'sample_idx' in sample:
                sample.set_metainfo(dict(sample_idx=sample.sample_idx + before))
        return item

    def _count(self, index: int, error: DataError) -> None:
        index %= len(self.bad)
        if self.bad[index]:
            return
        self.bad[index] = True
        number = int(self.bad.sum())
        if number > self.max_bad_images or self.bad.all():
            raise DataError(
                f'{error}; it is bad image {number} of {len(self.bad)} in process {self.rank}, and '
                f'max_bad_images={self.max_bad_images}'
            ) from error
        MMLogger.get_current_instance().warning(
            f'bad image {number}, up to max_bad_images={self.max_bad_images} are replaced by '
            f'others: {error}'
        )

    def _check_label(self, sample: DataSample, index: int) -> None:
        """A label beyond the head ends in an assertion of the device, which names nothing."""
        label = sample.get('gt_label')
        if label is None or self.num_classes is None or not label.numel():
            return
        if not (0 <= int(label.min()) and int(label.max()) < self.num_classes):
            where = sample.get('img_path') or f'image {index}'
            raise label_error(where, label.tolist(), self.num_classes)


@FUNCTIONS.register_module()
def collate_images(items: Sequence[dict]) -> dict:
    """A batch, as mmengine's ``default_collate`` makes it of images of one size.

    Raises:
        DataError: They have several; two of them are named.
    """
    try:
        return default_collate(items)
    except RuntimeError as error:
        shapes = [tuple(item['inputs'].shape) for item in items]
        other = next((index for index, shape in enumerate(shapes) if shape != shapes[0]), None)
        if other is None:
            raise
        first, path = (items[index]['data_samples'].get('img_path') for index in (0, other))
        resize = "dict(type='mmpretrain.Resize', scale=(WIDTH, HEIGHT))"
        of_one_size = shapes[0][1:] == shapes[other][1:]
        advice = "dict(type='LoadImage', color_type='color')" if of_one_size else resize
        raise DataError.expected(
            str(path),
            f'an image of shape {shapes[0]}, as {first}, by a transform of the pipeline such as '
            f'{advice}',
            f'{shapes[other]} (channels, height, width)',
        ) from error


def _images_before(dataset: Dataset, index: int) -> int:
    """Images of a ``ConcatDataset`` before the part of an image, whose parts count from 0 each."""
    ends = dataset.cumulative_sizes if isinstance(dataset, ConcatDataset) else ()
    return max((end for end in ends if end <= index), default=0)


def num_classes(dataset: Dataset) -> int | None:
    """Classes that a data set says it has, if it does."""
    return len(getattr(dataset, 'metainfo', {}).get('classes') or ()) or None


def label_error(where: str, label: list, classes: int) -> DataError:
    """The error of a label beyond the classes."""
    expected = f'a label in 0..{classes - 1} of train_dataloader.dataset'
    return DataError.expected(where, expected, label)


def init_worker(worker_id: int) -> None:
    """Initialize a worker of a loader; its random numbers come with each image.

    A scheduler that asks a run to stop may signal all of its processes. The main one needs its
    workers for the iteration it is in, so that they obey no one else.
    """
    asked = {signal.SIGTERM, signal.SIGUSR1, signal.SIGINT}
    parent = os.getppid()

    def obey_parent() -> None:
        while True:
            told = signal.sigwaitinfo(asked)
            if told.si_pid == parent and told.si_signo == signal.SIGTERM:
                os._exit(0)

    signal.pthread_sigmask(signal.SIG_BLOCK, asked)
    threading.Thread(target=obey_parent, daemon=True).start()


def training_loader(config: dict, endless: bool, needed: Mapping | None = None) -> dict:
    """The config of a loader whose batches can start anywhere.

    Args:
        config: ``train_dataloader``.
        endless: See :class:`ResumableBatchSampler`.
        needed: Config of the batch sampler that a method needs, where ``config`` has none.

    Raises:
        ConfigError: It has no batch size.
    """
    config = dict(config)
    size = config.get('batch_size')
    ConfigError.check(isinstance(size, int), 'train_dataloader.batch_size', 'a number', repr(size))
    drop_last = config.pop('drop_last', False)
    config['batch_sampler'] = dict(
        type=ResumableBatchSampler,
        batch_sampler=config.get('batch_sampler') or (needed and dict(needed, drop_last=drop_last)),
        drop_last=drop_last,
        endless=endless,
    )
    return config

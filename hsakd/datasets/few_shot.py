import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmpretrain.datasets import BaseDataset

from hsakd.registry import DATASETS
from hsakd.utils.checks import is_number
from hsakd.utils.errors import ConfigError, DataError


@DATASETS.register_module()
class FewShotSubset:
    """A share of the images of each class of a data set, for training on few.

    Every class is shuffled by ``seed`` and its first ``round(fraction * n)`` images are taken, at
    least one. So the subset does not depend on the run's random seed and is the same for every
    method, a smaller fraction is part of a larger one, and every class has its share, which
    scikit-learn's stratified split gives over all classes together only.

    Args:
        dataset: The data set to choose from, or its config: one of mmpretrain's kind, with one
            ``gt_label`` an image.
        fraction: Share of each class, above 0 and at most 1.
        seed: Of the choice.
        data_root: Instead of the data set's own, as one would give it for the data set alone.
        indices_file: Take the images that this file lists instead, in the format of
            :meth:`record`; for ``fraction=None``.

    Raises:
        ConfigError: An argument has an unusable value.
        DataError: A class has no image, or ``indices_file`` is not of this data set.
    """

    def __init__(
        self,
        dataset: BaseDataset | dict,
        fraction: float | None = None,
        seed: int = 0,
        indices_file: str | None = None,
        data_root: str | None = None,
    ) -> None:
        where = 'dataset.{} of FewShotSubset'.format
        ConfigError.check(
            (fraction is None) != (indices_file is None),
            'dataset of FewShotSubset',
            'either fraction or indices_file, and None for the other',
            f'fraction={fraction!r}, indices_file={indices_file!r}',
        )
        ok = fraction is None or (is_number(fraction) and 0 < fraction <= 1)
        ConfigError.check(ok, where('fraction'), 'a number above 0, at most 1', repr(fraction))
        ok = isinstance(seed, int) and 0 <= seed < 2**32
        ConfigError.check(ok, where('seed'), 'an integer in 0..2**32-1', repr(seed))
        if data_root is not None and isinstance(dataset, dict):
            dataset = dict(dataset, data_root=data_root)
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        ConfigError.check(
            isinstance(self.dataset, BaseDataset),
            where('dataset'),
            "a data set of mmpretrain's kind, e.g. dict(type='CIFAR100', ...)",
            type(self.dataset).__name__,
        )
        self.fraction = fraction
        self.seed = seed
        self.dataset.full_init()
        self.num_images = len(self.dataset)
        if indices_file is None:
            self.indices = self._choose()
        else:
            self.indices = _read_indices(indices_file, self.num_images)
        # The data set itself becomes smaller, since it refetches another image of its own where a
        # pipeline gives none.
        self.dataset = self.dataset.get_subset(self.indices)

    @property
    def metainfo(self) -> dict:
        """The metainfo of the whole data set, with all of its classes."""
        return self.dataset.metainfo

    def _choose(self) -> list[int]:
        try:
            labels = self.dataset.get_gt_labels()
        except (KeyError, ValueError):  # an image without, or with other numbers of them
            labels = np.empty((0, 0))
        where = f'{type(self.dataset).__name__}, data_root={self.dataset.data_root!r}'
        expected = 'one gt_label an image, of whose classes FewShotSubset takes a share'
        DataError.check(labels.ndim == 1, where, expected, 'none or several')
        names = self.metainfo.get('classes')
        classes = np.unique(labels) if names is None else range(len(names))
        rng = np.random.RandomState(self.seed)  # unlike a Generator's its numbers never change
        chosen = []
        for label in classes:
            of_class = rng.permutation(np.flatnonzero(labels == label))
            if not of_class.size:
                found = f'none of {names[label]!r}'
                raise DataError.expected(where, 'images of every class', found)
            chosen.extend(of_class[: max(1, round(self.fraction * of_class.size))].tolist())
        return sorted(chosen)

    def record(self) -> dict:
        """What was chosen, for the record and for ``indices_file``.

        Returns:
            ``dataset``, the class name of the whole data set; ``num_images``, its length;
            ``fraction`` and ``seed`` (None for images of a file); and ``indices``, the positions
            in the whole data set, ascending.
        """
        return dict(
            dataset=type(self.dataset).__name__,
            num_images=self.num_images,
            fraction=self.fraction,
            seed=None if self.fraction is None else self.seed,
            indices=self.indices,
        )

    def get_data_info(self, idx: int) -> dict:
        """Annotation of image ``idx`` of the subset."""
        return self.dataset.get_data_info(idx)

    def get_gt_labels(self) -> np.ndarray:
        """The class of every image of the subset."""
        return self.dataset.get_gt_labels()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, idx: int) -> dict:
        return self.dataset[idx]


def _read_indices(path: str, num_images: int) -> Sequence[int]:
    where, expected = f'dataset.indices_file={str(path)!r}', 'a few_shot_indices.json of a work dir'
    try:
        record = json.loads(Path(path).expanduser().read_text())
    except (OSError, ValueError) as error:
        raise DataError.expected(where, expected, error) from error
    indices = record.get('indices') if isinstance(record, dict) else None
    fits = (
        isinstance(indices, list)
        and indices
        and all(type(i) is int and 0 <= i < num_images for i in indices)
        and len(set(indices)) == len(indices)
    )
    expected = f"'indices', different integers in 0..{num_images - 1}, one for each image to take"
    DataError.check(fits, where, expected, 'others or none')
    expected = f'indices of this data set, with num_images={num_images}'
    found = record.get('num_images')
    DataError.check(found == num_images, where, expected, f'num_images={found}')
    return indices

import io
from collections.abc import Sequence

import numpy as np
from mmpretrain.datasets import CIFAR10 as MMPretrainCIFAR10
from mmpretrain.datasets import CIFAR100 as MMPretrainCIFAR100

from hsakd.registry import DATASETS
from hsakd.utils.errors import DataError
from hsakd.utils.unpickling import load_pickle

from .base import check_split, read_files, relabel


class _CIFARArchive:
    """Reads ``data_root/base_folder/*`` or, where that is absent, ``data_root/filename``."""

    image_size = 32
    # Of CIFAR-100's training images. Published trainings on CIFAR-10 take the same.
    mean = (0.5071 * 255, 0.4867 * 255, 0.4408 * 255)
    std = (0.2675 * 255, 0.2565 * 255, 0.2761 * 255)

    def __init__(self, data_root: str, split: str, **kwargs) -> None:
        check_split(split, ('train', 'test'), type(self).__name__)
        super().__init__(data_root=str(data_root), split=split, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One ``img`` [32, 32, 3] (uint8, RGB) and ``gt_label`` an image.

        Raises:
            DataError: The archive is missing or broken; the message names the file.
        """
        names = [name for name, _ in (self.train_list if self.split == 'train' else self.test_list)]
        files = read_files(self.data_prefix['root'], self.base_folder, self.filename, names)
        largest = len(self.METAINFO['classes']) - 1
        data_list = []
        for name in names:
            path, content = files[name]
            try:
                batch = load_pickle(io.BytesIO(content), encoding='latin1')
            except Exception as error:  # broken pickles raise of any kind
                raise DataError.expected(path, 'a batch of CIFAR', error) from error
            DataError.check(isinstance(batch, dict), path, 'a batch of CIFAR', type(batch).__name__)
            images, labels = batch.get('data'), batch.get('labels', batch.get('fine_labels'))
            DataError.check(
                isinstance(images, np.ndarray)
                and images.shape[1:] == (3072,)
                and isinstance(labels, Sequence)
                and len(labels) == len(images),
                path,
                "a batch of CIFAR with 'data' [n, 3072] and n labels",
                f'keys {sorted(map(str, batch))}',
            )
            for position, label in enumerate(labels):
                if not (isinstance(label, int | np.integer) and 0 <= label <= largest):
                    where, expected = f'{path}, image {position}', f'a label in 0..{largest}'
                    raise DataError.expected(where, expected, repr(label))
            images = images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            data_list += [
                dict(img=image, gt_label=int(label))
                for image, label in zip(images, labels, strict=True)
            ]
        relabel(data_list, self.METAINFO['classes'], self.CLASSES)
        return data_list


@DATASETS.register_module()
class CIFAR10(_CIFARArchive, MMPretrainCIFAR10):
    """CIFAR-10 in its original archive's layout, unpacked or not.

    Unlike mmpretrain's it downloads nothing, reads the ``.tar.gz`` as it is, and executes nothing
    that a file may hold.

    Args:
        data_root: The folder with ``cifar-10-batches-py/`` or ``cifar-10-python.tar.gz``.
        split: 'train' or 'test'.
        **kwargs: Of mmengine's ``BaseDataset``.
    """


@DATASETS.register_module()
class CIFAR100(_CIFARArchive, MMPretrainCIFAR100):
    """CIFAR-100 in its original archive's layout, unpacked or not; see :class:`CIFAR10`.

    Args:
        data_root: The folder with ``cifar-100-python/`` or ``cifar-100-python.tar.gz``.
        split: 'train' or 'test'.
        **kwargs: Of mmengine's ``BaseDataset``.
    """

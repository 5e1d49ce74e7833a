import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
from mmpretrain.datasets import CIFAR10 as MMPretrainCIFAR10
from mmpretrain.datasets import CIFAR100 as MMPretrainCIFAR100

from hsakd.registry import DATASETS
from hsakd.utils.errors import DataError


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays and plain Python, and calls nothing else."""

    _ALLOWED = {
        ('_codecs', 'encode'),
        ('numpy', 'ndarray'),
        ('numpy', 'dtype'),
        *(
            (f'numpy.{core}.multiarray', name)
            for core in ('core', '_core')
            for name in ('_reconstruct', 'scalar')
        ),
    }

    def find_class(self, module: str, name: str) -> object:
        if (module, name) in self._ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f'it would call {module}.{name}')


class _CIFARArchive:
    """Reads ``data_root/base_folder/*`` or, where that is absent, ``data_root/filename``."""

    image_size = 32

    def load_data_list(self) -> list[dict]:
        """One ``img`` [32, 32, 3] (uint8, RGB) and ``gt_label`` an image.

        Raises:
            DataError: The archive is missing or broken; the message names the file.
        """
        names = [name for name, _ in (self.train_list if self.split == 'train' else self.test_list)]
        data_list = []
        for name in names:
            batch, path = self._read(name)
            images = batch.get('data')
            labels = batch.get('labels', batch.get('fine_labels'))
            if (
                not isinstance(images, np.ndarray)
                or images.ndim != 2
                or images.shape[1] != 3072
                or labels is None
                or len(labels) != len(images)
            ):
                raise DataError(
                    f'{path}: found keys {sorted(map(str, batch))}; accepted is a batch of CIFAR '
                    "with 'data' [n, 3072] and n labels"
                )
            classes = len(self.METAINFO['classes'])
            for position, label in enumerate(labels):
                if not (isinstance(label, int | np.integer) and 0 <= label < classes):
                    raise DataError(
                        f'{path}: label {label!r} of image {position}; accepted are '
                        f'0..{classes - 1}'
                    )
            images = images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            data_list += [
                dict(img=image, gt_label=int(label))
                for image, label in zip(images, labels, strict=True)
            ]
        return data_list

    def _read(self, name: str) -> tuple[dict, str]:
        root = Path(self.data_prefix['root'])
        folder, archive = root / self.base_folder, root / self.filename
        try:
            if folder.is_dir():
                path = str(folder / name)
                content = Path(path).read_bytes()
            elif archive.is_file():
                path = f'{archive}:{self.base_folder}/{name}'
                with tarfile.open(archive) as tar:
                    content = tar.extractfile(f'{self.base_folder}/{name}').read()
            else:
                raise DataError(
                    f'dataset.data_root={str(root)!r}: neither {self.base_folder}/ nor '
                    f'{self.filename} is in it; accepted is the folder of the archive from '
                    f'{self.url}'
                )
            return _ArrayUnpickler(io.BytesIO(content), encoding='latin1').load(), path
        except (OSError, EOFError, KeyError, tarfile.TarError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(':')
            raise DataError(f'{path}: missing or truncated ({reason})') from error
        except (pickle.UnpicklingError, ValueError, UnicodeDecodeError) as error:
            raise DataError(f'{path}: not a batch of CIFAR ({error})') from error


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

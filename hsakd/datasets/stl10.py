import tarfile
import zlib
from pathlib import Path

import numpy as np
from mmpretrain.datasets import BaseDataset

from hsakd.registry import DATASETS
from hsakd.utils.errors import ConfigError, DataError

_FOLDER = 'stl10_binary'
_ARCHIVE = 'stl10_binary.tar.gz'
_IMAGE_BYTES = 3 * 96 * 96


@DATASETS.register_module()
class STL10(BaseDataset):
    """STL-10's labelled images from its binary files, unpacked or not.

    The archive also holds 100,000 images without labels, so that reading it as it is takes the
    time of unpacking at every start.

    Args:
        data_root: The folder with ``stl10_binary/`` or ``stl10_binary.tar.gz``.
        split: 'train' (5,000 images) or 'test' (8,000).
        **kwargs: Of mmpretrain's ``BaseDataset``.
    """

    def __init__(self, data_root: str, split: str, **kwargs) -> None:
        if split not in ('train', 'test'):
            raise ConfigError(f"dataset.split={split!r} of STL10: accepted are 'train' and 'test'")
        self.split = split
        super().__init__(ann_file='', data_root=str(data_root), **kwargs)

    def load_data_list(self) -> list[dict]:
        """One ``img`` [96, 96, 3] (uint8, RGB) and ``gt_label`` an image.

        Raises:
            DataError: A file is missing or broken; the message names it.
        """
        names = (f'{self.split}_X.bin', f'{self.split}_y.bin', 'class_names.txt')
        where, files = _read(Path(self.data_root).expanduser(), names)
        images, labels, classes = (files[name] for name in names)
        classes = tuple(classes.decode(errors='replace').split())
        labels = np.frombuffer(labels, np.uint8)
        if not images or len(images) % _IMAGE_BYTES:
            raise DataError(
                f'{where}/{names[0]}: {len(images)} bytes; accepted is a multiple of {_IMAGE_BYTES}'
                ', the size of an image [3, 96, 96]'
            )
        # Channel after channel, and in each of them column after column.
        images = np.frombuffer(images, np.uint8).reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)
        if len(labels) != len(images):
            raise DataError(
                f'{where}/{names[1]}: {len(labels)} labels, and {len(images)} images in {names[0]};'
                ' accepted is a byte for each image'
            )
        outside = np.flatnonzero((labels < 1) | (labels > len(classes)))
        if outside.size:
            raise DataError(
                f'{where}/{names[1]}: label {labels[outside[0]]} of image {outside[0]}; accepted '
                f'are 1..{len(classes)}, a line of {names[2]} each'
            )
        self._metainfo.setdefault('classes', classes)
        return [
            dict(img=np.ascontiguousarray(image), gt_label=int(label) - 1)
            for image, label in zip(images, labels, strict=True)
        ]


def _read(root: Path, names: tuple[str, ...]) -> tuple[str, dict[str, bytes]]:
    """Where the files are, and their content by name."""
    folder, archive = root / _FOLDER, root / _ARCHIVE
    try:
        if folder.is_dir():
            where = str(folder)
            return where, {name: (folder / name).read_bytes() for name in names}
        if not archive.is_file():
            raise DataError(
                f'dataset.data_root={str(root)!r}: neither {_FOLDER}/ nor {_ARCHIVE} is in it; '
                f'accepted is the folder of STL-10, which has {_ARCHIVE} or what it unpacks to'
            )
        where = f'{archive}:{_FOLDER}'
        return where, _read_archive(archive, names)
    except FileNotFoundError as error:
        raise DataError(
            f'{error.filename}: no such file; accepted is the whole {_FOLDER}/'
        ) from error
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DataError(f'{where}: cannot be read, truncated perhaps ({error})') from error


def _read_archive(archive: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    wanted = {f'{_FOLDER}/{name}': name for name in names}
    files = {}
    with tarfile.open(archive, 'r|gz') as tar:  # once through: it cannot be sought in cheaply
        for member in tar:
            if member.name in wanted:
                files[wanted[member.name]] = tar.extractfile(member).read()
                if len(files) == len(names):
                    return files
    missing = next(name for name in names if name not in files)
    raise DataError(f'{archive}: {_FOLDER}/{missing} is not in it; accepted is the whole archive')

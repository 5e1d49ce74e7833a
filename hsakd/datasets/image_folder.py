import os
from pathlib import Path

import numpy as np
from mmcv.image.io import imread_flags
from mmcv.transforms import LoadImageFromFile
from mmpretrain.datasets import CustomDataset
from PIL import Image, ImageOps

from hsakd.registry import DATASETS, TRANSFORMS
from hsakd.utils.errors import ConfigError, DataError

from .base import (
    DECODE_ERRORS,
    IMAGE_EXTENSIONS,
    MAX_PIXELS,
    CheckedImages,
    check_files,
    check_mode,
    check_no_splits,
    check_once,
    class_folders,
    held_out,
    images_in_folders,
    label_order,
    open_image,
    read_annotations,
    unreadable,
)


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """Load an image by Pillow, which notices truncated files, with a clear error.

    Gray images of 16 bits are scaled to 8, where Pillow alone would make all above 255 white.

    Args:
        max_pixels: An image that says it has more is an error, and not decoded.
        **kwargs: Of mmcv's ``LoadImageFromFile``.
    """

    def __init__(self, max_pixels: int = MAX_PIXELS, **kwargs) -> None:
        self.max_pixels = max_pixels
        kind, known = kwargs.get('color_type', 'color'), list(imread_flags)
        ConfigError.check(kind in known, 'color_type of LoadImage', ' or '.join(known), repr(kind))
        super().__init__(**{'imdecode_backend': 'pillow', **kwargs})

    def transform(self, results: dict) -> dict:
        """Add ``img`` [H, W, 3] (uint8, BGR) of ``img_path``.

        Raises:
            DataError: The file is missing, cannot be decoded, or has too many pixels or pixels of
                an unknown range.
        """
        path = results['img_path']
        try:
            with open_image(path, self.max_pixels) as image:
                check_mode(image, path)
                gray = _gray(image) if image.mode.startswith('I;16') else None
            results = super().transform(results)
        except DECODE_ERRORS as error:
            raise unreadable(path, error) from error
        if gray is not None:
            results['img'][...] = gray[..., None] if results['img'].ndim == 3 else gray
        return results


def read_image(path: Path, channels: int = 3) -> np.ndarray:
    """The image [H, W, 3], uint8, BGR; in gray where a network takes one channel.

    Raises:
        DataError: It cannot be decoded.
        ConfigError: A network takes other numbers of channels, which files do not have.
    """
    expected = '1 (gray) or 3 (color), which images of files have'
    ConfigError.check(channels in (1, 3), 'backbone.in_channels', expected, channels)
    load = LoadImage(color_type='grayscale' if channels == 1 else 'color')
    image = load.transform(dict(img_path=str(path)))['img']
    return np.dstack([image] * 3) if image.ndim == 2 else image


def _gray(image: Image.Image) -> np.ndarray:
    """A gray image of 16 bits as 8 bits [H, W]."""
    return np.round(np.asarray(ImageOps.exif_transpose(image)) / 257).astype(np.uint8)


@DATASETS.register_module()
class ImageFolder(CheckedImages, CustomDataset):
    """A folder of images by class: ``data_root/CLASS/**/IMAGE``.

    Labels are the places of the class folders in alphabetical order or, with ``metainfo.classes``,
    of their names in that. Of ``val`` and ``test`` at its end, the one that is there is taken where
    the other is not. With an ``ann_file``, its lines ``IMAGE LABEL`` say what the images are,
    see :func:`~hsakd.datasets.base.read_annotations`.

    Args:
        data_root: The folder whose subfolders are the classes.
        **kwargs: Of :class:`CheckedImages` (``skip_bad_images``) and mmpretrain's
            ``CustomDataset``.

    Attributes:
        largest_label: The largest label of an ``ann_file``, with its line for messages.
    """

    largest_label: tuple[str, int] | None = None

    def __init__(self, data_root: str, **kwargs) -> None:
        data_root = held_out(Path(data_root))
        if not any(data_root.glob('*/*')) and not kwargs.get('ann_file'):
            found = 'a file' if data_root.is_file() else 'nothing'
            either = ' (val/ or test/, whichever is there)' * (data_root.name in ('val', 'test'))
            raise DataError.expected(
                f'dataset.data_root={str(data_root)!r}',
                f'a folder with a subfolder of images for each class{either}',
                'no subfolder with files' if data_root.is_dir() else found,
            )
        super().__init__(data_root=str(data_root), **{'extensions': IMAGE_EXTENSIONS, **kwargs})

    def load_checked(self) -> list[dict]:
        """One ``img_path`` and ``gt_label`` an image.

        Raises:
            DataError: There is none; folders are not those of ``metainfo.classes``; or a line of
                the annotation file is not as it should be, or names an image that is not there.
        """
        if not self.with_label:
            return CustomDataset.load_data_list(self)
        images = self._annotated() if self.ann_file else self._in_folders()
        return [
            dict(img_path=os.path.join(self.img_prefix, name), gt_label=label)
            for name, label in images
        ]

    def _annotated(self) -> list[tuple[str, int]]:
        check_once(self.CLASSES or ())
        names, labels, classes, first = read_annotations(self.ann_file, self.CLASSES)
        largest = max(labels)
        self.largest_label = f'{self.ann_file}, line {first + labels.index(largest)}', largest
        if classes:
            self._metainfo['classes'] = tuple(classes)
        if not self.skip_bad_images:
            check_files(self.img_prefix, names, self.ann_file)
        return list(zip(names, labels, strict=True))

    def _in_folders(self) -> list[tuple[str, int]]:
        where = f'dataset.data_root={self.data_root!r}'
        if not self.CLASSES:
            check_no_splits(self.img_prefix, where, 'test' if self.test_mode else 'train')
        folders = class_folders(self.img_prefix)
        classes = label_order(folders, self.CLASSES or folders, where)
        self._metainfo['classes'] = tuple(classes)
        return images_in_folders(self.img_prefix, classes, self.extensions, where, self.test_mode)

import os
from pathlib import Path

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.logging import MMLogger
from mmpretrain.datasets import CustomDataset
from PIL import Image, ImageOps

from hsakd.registry import DATASETS, TRANSFORMS
from hsakd.utils.errors import DataError

from .base import (
    DECODE_ERRORS,
    IMAGE_EXTENSIONS,
    MAX_PIXELS,
    CheckedImages,
    check_mode,
    open_image,
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


def _gray(image: Image.Image) -> np.ndarray:
    """A gray image of 16 bits as 8 bits [H, W]."""
    return np.round(np.asarray(ImageOps.exif_transpose(image)) / 257).astype(np.uint8)


@DATASETS.register_module()
class ImageFolder(CheckedImages, CustomDataset):
    """A folder of images by class: ``data_root/CLASS/**/IMAGE``.

    Args:
        data_root: The folder whose subfolders are the classes.
        **kwargs: Of :class:`CheckedImages` (``skip_bad_images``) and mmpretrain's
            ``CustomDataset``.
    """

    def __init__(self, data_root: str, **kwargs) -> None:
        if not any(Path(data_root).glob('*/*')):
            found = 'a file' if Path(data_root).is_file() else 'nothing'
            raise DataError.expected(
                f'dataset.data_root={str(data_root)!r}',
                'a folder with a subfolder of images for each class',
                'no subfolder with files' if Path(data_root).is_dir() else found,
            )
        super().__init__(data_root=str(data_root), **{'extensions': IMAGE_EXTENSIONS, **kwargs})

    def load_checked(self) -> list[dict]:
        """One ``img_path`` and ``gt_label`` an image."""
        where = f'dataset.data_root={self.data_root!r}'
        images = f'images ({", ".join(sorted(self.extensions))}) in its subfolders'
        try:
            data_list = CustomDataset.load_data_list(self)
        except RuntimeError as error:  # mmpretrain found no image
            raise DataError.expected(where, images, 'none') from error
        if not self.ann_file:
            others = sum(len(files) for *_, files in os.walk(self.img_prefix)) - len(data_list)
            if others:
                logger = MMLogger.get_current_instance()
                logger.info(f'{where}: {others} other files ignored beside {images}')
        return data_list

import contextlib
import os
import re
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.logging import MMLogger
from mmpretrain.datasets import CustomDataset
from PIL import Image, ImageOps, UnidentifiedImageError

from hsakd.registry import DATASETS, TRANSFORMS
from hsakd.utils.errors import DataError

#: Of what is taken for an image.
IMAGE_EXTENSIONS = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')

#: Most pixels of an image by default: Pillow's own limit, of 256 MiB in RGB.
MAX_PIXELS = 1024**3 // 4 // 3

# What Pillow raises for files that it cannot decode.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError)


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` by Pillow, which notices truncated files, with a clear error.

    Grey images of 16 bits are scaled to 8, where Pillow alone would make all above 255 white.

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
                _check_mode(image, path)
                grey = _grey(image) if image.mode.startswith('I;16') else None
            results = super().transform(results)
        except _DECODE_ERRORS as error:
            # Pillow's own words name a buffer in memory.
            unknown = isinstance(error, UnidentifiedImageError)
            reason = 'of no format that Pillow reads' if unknown else error
            raise DataError(
                f'{path}: cannot be decoded ({reason}); mend or remove it, or skip such images '
                'with --skip-bad-images'
            ) from error
        if grey is not None:
            results['img'][...] = grey[..., None] if results['img'].ndim == 3 else grey
        return results


@contextlib.contextmanager
def open_image(path: str, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Pillow's image of a file, of which only the header is read.

    Args:
        path: The file.
        max_pixels: Height times width may be so much.

    Raises:
        DataError: It is more.
        OSError, SyntaxError, ValueError: Pillow's, of a file that it cannot read.
    """
    # Pillow warns above its own limit, and refuses twice that.
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, max_pixels)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('error', Image.DecompressionBombWarning)
            image = Image.open(path)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        pixels = re.search(r'\d+', str(error))
        raise DataError(_too_large(path, int(pixels[0]), max_pixels)) from error
    with image:
        pixels = image.width * image.height
        if pixels > max_pixels:
            raise DataError(_too_large(path, pixels, max_pixels))
        yield image


def _too_large(path: str, pixels: int, max_pixels: int) -> str:
    return (
        f'{path}: not decoded, since it says that it has {pixels:,} pixels; accepted are '
        f'{max_pixels:,} at most (max_pixels); remove it, or skip such images with '
        '--skip-bad-images'
    )


def _check_mode(image: Image.Image, path: str) -> None:
    if image.mode in ('I', 'F'):
        raise DataError(
            f'{path}: cannot be decoded to 8 bits, since the range of its pixels (mode '
            f'{image.mode!r}, 32 bits) is not known; accepted are images of 8 bits a channel and '
            'grey ones of 16; convert it, or skip such images with --skip-bad-images'
        )


def _grey(image: Image.Image) -> np.ndarray:
    """A grey image of 16 bits as 8 bits [H, W]."""
    return np.round(np.asarray(ImageOps.exif_transpose(image)) / 257).astype(np.uint8)


@DATASETS.register_module()
class ImageFolder(CustomDataset):
    """A folder of images by class: ``data_root/CLASS/**/IMAGE``.

    Args:
        data_root: The folder whose subfolders are the classes.
        skip_bad_images: Decode every image once at the start, and leave out and count those that
            cannot be, or have more than ``MAX_PIXELS``. None is left out by default; the first one
            met stops the run.
        **kwargs: Of mmpretrain's ``CustomDataset``.
    """

    def __init__(self, data_root: str, skip_bad_images: bool = False, **kwargs) -> None:
        self.skip_bad_images = skip_bad_images
        if not any(Path(data_root).glob('*/*')):
            found = 'is a file' if Path(data_root).is_file() else 'does not exist'
            if Path(data_root).is_dir():
                found = 'has no subfolder with files'
            raise DataError(
                f'dataset.data_root={str(data_root)!r} {found}; accepted is a folder with a '
                'subfolder of images for each class'
            )
        super().__init__(data_root=str(data_root), **{'extensions': IMAGE_EXTENSIONS, **kwargs})

    def load_data_list(self) -> list[dict]:
        """One ``img_path`` and ``gt_label`` an image.

        Raises:
            DataError: No image, or none that can be decoded.
        """
        try:
            data_list = super().load_data_list()
        except RuntimeError as error:  # mmpretrain found no image
            raise DataError(
                f'dataset.data_root={self.data_root!r}: no image in its subfolders; accepted are '
                f'{", ".join(sorted(self.extensions))}'
            ) from error
        if not self.ann_file:
            others = sum(len(files) for *_, files in os.walk(self.img_prefix)) - len(data_list)
            if others:
                MMLogger.get_current_instance().info(
                    f'dataset.data_root={self.data_root!r}: {others} other files ignored; images '
                    f'are {", ".join(sorted(self.extensions))} in subfolders'
                )
        return drop_bad_images(data_list, self.data_root) if self.skip_bad_images else data_list


def drop_bad_images(data_list: list[dict], data_root: str) -> list[dict]:
    """Decode every image of a data set once; leave out, and count in the log, those that cannot be.

    Args:
        data_list: With ``img_path``.
        data_root: Where they came from, for messages.

    Raises:
        DataError: None is left.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        good = list(pool.map(_can_be_decoded, (info['img_path'] for info in data_list)))
    bad = [info['img_path'] for info, ok in zip(data_list, good, strict=True) if not ok]
    if bad:
        shown = ', '.join(bad[:5]) + (', ...' if len(bad) > 5 else '')
        MMLogger.get_current_instance().warning(
            f'skipped {len(bad)} of {len(data_list)} images that cannot be decoded: {shown}'
        )
    if len(bad) == len(data_list):
        raise DataError(
            f'dataset.data_root={data_root!r}: none of {len(bad)} images can be decoded'
        )
    return [info for info, ok in zip(data_list, good, strict=True) if ok]


def _can_be_decoded(path: str) -> bool:
    try:
        with open_image(path) as image:
            _check_mode(image, path)
            image.load()
    except (DataError, *_DECODE_ERRORS):
        return False
    return True

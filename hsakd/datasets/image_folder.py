import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mmcv.transforms import LoadImageFromFile
from mmengine.logging import MMLogger
from mmpretrain.datasets import CustomDataset
from PIL import Image

from hsakd.registry import DATASETS, TRANSFORMS
from hsakd.utils.errors import DataError

# What Pillow raises for files that it cannot decode.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` by Pillow, which notices truncated files, with a clear error."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**{'imdecode_backend': 'pillow', **kwargs})

    def transform(self, results: dict) -> dict:
        """Add ``img`` [H, W, 3] (uint8, BGR) of ``img_path``.

        Raises:
            DataError: The file is missing or cannot be decoded.
        """
        try:
            return super().transform(results)
        except _DECODE_ERRORS as error:
            raise DataError(
                f'{results["img_path"]}: cannot be decoded ({error}); mend or remove it, or skip '
                'such images with --skip-bad-images'
            ) from error


@DATASETS.register_module()
class ImageFolder(CustomDataset):
    """A folder of images by class: ``data_root/CLASS/**/IMAGE``.

    Args:
        data_root: The folder whose subfolders are the classes.
        skip_bad_images: Decode every image once at the start, and leave out and count those that
            cannot be. None is left out by default; the first one met stops the run.
        **kwargs: Of mmpretrain's ``CustomDataset``.
    """

    def __init__(self, data_root: str, skip_bad_images: bool = False, **kwargs) -> None:
        self.skip_bad_images = skip_bad_images
        if not any(Path(data_root).glob('*/*')):
            found = 'is empty' if Path(data_root).is_dir() else 'does not exist'
            raise DataError(
                f'dataset.data_root={str(data_root)!r} {found}; accepted is a folder with a '
                'subfolder of images for each class'
            )
        super().__init__(data_root=str(data_root), **kwargs)

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
        with Image.open(path) as image:
            image.load()
    except _DECODE_ERRORS:
        return False
    return True

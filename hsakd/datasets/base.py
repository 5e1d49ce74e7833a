"""What data sets share: splits that exist, files that are whole, images that can be decoded."""

import contextlib
import os
import re
import tarfile
import warnings
import zlib
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mmengine.logging import MMLogger
from PIL import ExifTags, Image, UnidentifiedImageError

from hsakd.utils.errors import ConfigError, DataError

#: Of what is taken for an image.
IMAGE_EXTENSIONS = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')

#: Most pixels of an image by default: Pillow's own limit, of 256 MiB in RGB.
MAX_PIXELS = 1024**3 // 4 // 3

#: What Pillow raises for files that it cannot decode.
DECODE_ERRORS = (OSError, SyntaxError, ValueError)

#: Threads that read headers, for which a network's disk is waited for.
_READERS = 16

_ADVICE = 'mend or remove it, or skip such images with --skip-bad-images'


class CheckedImages:
    """Image files of which bad ones can be left out; mixed into a data set of mmengine's kind.

    A subclass lists its images, with ``img_path``, in ``load_checked``.

    Args:
        skip_bad_images: Decode every image once at the start, and leave out and count those that
            cannot be, or have more than ``MAX_PIXELS``. None is left out by default; the first one
            met stops the run.
        **kwargs: Of the data set.
    """

    def __init__(self, skip_bad_images: bool = False, **kwargs) -> None:
        self.skip_bad_images = skip_bad_images
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """The images of ``load_checked``, without bad ones where these are to be skipped.

        Raises:
            DataError: No image, or none that can be decoded; or what ``load_checked`` raises.
        """
        data_list = self.load_checked()
        if not self.skip_bad_images:
            return data_list
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            good = list(pool.map(_can_be_decoded, (info['img_path'] for info in data_list)))
        bad = [info['img_path'] for info, ok in zip(data_list, good, strict=True) if not ok]
        if bad:
            MMLogger.get_current_instance().warning(
                f'skipped {len(bad)} of {len(data_list)} images that cannot be decoded: {some(bad)}'
            )
        where, expected = f'dataset.data_root={self.data_root!r}', 'an image that can be decoded'
        DataError.check(len(bad) < len(data_list), where, expected, f'none among {len(bad)}')
        return [info for info, ok in zip(data_list, good, strict=True) if ok]


def _can_be_decoded(path: str) -> bool:
    try:
        with open_image(path) as image:
            check_mode(image, path)
            image.load()
    except (DataError, *DECODE_ERRORS):
        return False
    return True


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
        pixels = int(re.search(r'\d+', str(error))[0])
        raise _too_large(path, pixels, max_pixels) from error
    with image:
        pixels = image.width * image.height
        if pixels > max_pixels:
            raise _too_large(path, pixels, max_pixels)
        yield image


def image_sizes(paths: Sequence[str], max_pixels: int = MAX_PIXELS) -> list[tuple[int, int] | None]:
    """Width and height of images as they are shown, by their headers and EXIF orientation.

    None stands for what is missing or no image, which is for others to report.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(lambda path: _image_size(path, max_pixels), paths))


def _image_size(path: str, max_pixels: int) -> tuple[int, int] | None:
    try:
        with open_image(path, max_pixels) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            return image.size[::-1] if turned else image.size
    except (DataError, *DECODE_ERRORS):
        return None


def _too_large(path: str, pixels: int, max_pixels: int) -> DataError:
    expected = f'{max_pixels:,} pixels at most (max_pixels)'
    return DataError.expected(path, expected, f'{pixels:,}, and not decoded; {_ADVICE}')


def check_mode(image: Image.Image, path: str) -> None:
    """Raise a DataError for pixels of 32 bits, whose range is not known."""
    DataError.check(
        image.mode not in ('I', 'F'),
        path,
        '8 bits a channel, or 16 in gray',
        f'32 bits of unknown range (mode {image.mode!r}); convert it, {_ADVICE}',
    )


def unreadable(path: str, reason: object) -> DataError:
    """The error of an image that cannot be decoded.

    Args:
        path: The image.
        reason: What was found, or what Pillow raised.
    """
    if isinstance(reason, UnidentifiedImageError):  # whose words name a buffer in memory
        reason = 'no format that Pillow reads'
    return DataError.expected(path, 'an image that can be decoded', f'{reason}; {_ADVICE}')


def check_split(split: str, accepted: tuple[str, ...], dataset: str) -> str:
    """The name of a split, or a ConfigError where the data set has no such one."""
    expected = f'{" or ".join(map(repr, accepted))} of {dataset}'
    ConfigError.check(split in accepted, 'dataset.split', expected, repr(split))
    return split


def read_lines(path: str | Path, expected: str) -> list[str]:
    """The lines of a text file, without empty ones at its end, or a DataError if it has none.

    Args:
        path: The file.
        expected: What it should be, for messages.
    """
    try:
        lines = Path(path).read_text(encoding='utf-8-sig').rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError.expected(str(path), expected, error) from error
    DataError.check(lines, str(path), expected, 'an empty file')
    return lines


def read_files(
    data_root: str | Path, folder: str, archive: str, names: Sequence[str]
) -> dict[str, tuple[str, bytes]]:
    """Read files of a folder, or of the archive that unpacks to that folder.

    Args:
        data_root: Where either is.
        folder: Taken if it is there.
        archive: A ``.tar.gz``, read once from its start.
        names: Of files in the folder.

    Returns:
        By name, the place of a file for messages, and its content.

    Raises:
        DataError: There is neither, or a file is missing or broken.
    """
    root = Path(data_root).expanduser()
    unpacked, packed = root / folder, root / archive
    if unpacked.is_dir():
        try:
            return {name: (str(unpacked / name), (unpacked / name).read_bytes()) for name in names}
        except OSError as error:
            expected = f'a file of the whole {folder}/'
            raise DataError.expected(error.filename, expected, error.strerror) from error
    expected = f'a folder with {folder}/ or {archive}'
    DataError.check(packed.is_file(), f'dataset.data_root={str(root)!r}', expected, 'neither')
    files = {}
    try:
        with tarfile.open(packed, 'r|gz') as tar:  # once through: it cannot be sought in cheaply
            for member in tar:
                name = member.name.removeprefix(f'{folder}/')
                if name in names and member.isfile():
                    files[name] = f'{packed}:{member.name}', tar.extractfile(member).read()
                if len(files) == len(names):
                    return files
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DataError.expected(str(packed), 'a whole archive', f'{error!r}') from error
    missing = next(name for name in names if name not in files)
    raise DataError.expected(f'{packed}:{folder}/{missing}', 'a file', 'none')


def some(items: Collection[str], separator: str = ', ', number: int = 3) -> str:
    """The first of many, for messages."""
    return separator.join([*items][:number]) + (f'{separator}...' if len(items) > number else '')


class Folders(dict):
    """Names of the files in a folder, listed when first asked for.

    A look at each of COCO's files takes minutes on a network's disk.
    """

    def __missing__(self, folder: str) -> set[str]:
        self[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        return self[folder]

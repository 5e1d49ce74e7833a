"""What data sets share: splits that exist, files that are whole, images that can be decoded."""

import contextlib
import csv
import os
import re
import tarfile
import warnings
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mmengine.logging import MMLogger
from PIL import ExifTags, Image, UnidentifiedImageError

from hsakd.utils.errors import ConfigError, DataError

#: Of what is taken for an image.
IMAGE_EXTENSIONS = (
    '.avif', '.bmp', '.gif', '.j2k', '.jfif', '.jp2', '.jpe', '.jpeg', '.jpg', '.pbm', '.pgm',
    '.png', '.pnm', '.ppm', '.tif', '.tiff', '.webp',
)  # fmt: skip

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


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or one that macOS or a NAS puts beside images."""
    return name[0] == '.' or name in ('__MACOSX', '@eaDir')


def class_folders(root: str | Path) -> list[str]:
    """Names of the subfolders of a folder but hidden ones, in alphabetical order."""
    return sorted(e.name for e in os.scandir(root) if e.is_dir() and not is_hidden(e.name))


def files_below(folder: str | Path) -> list[str]:
    """Files in a folder and its subfolders but hidden ones, by their paths in it, sorted."""
    found = []
    for path, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not is_hidden(name)]
        shown = [os.path.join(path, name) for name in files if not is_hidden(name)]
        found += [os.path.relpath(name, folder) for name in shown]
    return sorted(found)


#: Names of folders of splits, which are no classes: to train on, and to test on.
TRAIN_FOLDERS = ('train', 'training')
HELD_OUT_FOLDERS = ('val', 'valid', 'validation', 'test', 'testing')
#: What the split that is not trained on is called.
_HELD_OUT = ('val', 'test')


def held_out(folder: Path) -> Path:
    """A folder of images; of ``val`` and ``test`` that which is there, where the other is not."""
    if folder.name not in _HELD_OUT or folder.exists():
        return folder
    other = folder.with_name(_HELD_OUT[folder.name == 'val'])
    return other if other.is_dir() else folder


def check_no_splits(root: str | Path, where: str, wanted: str = 'train') -> None:
    """Check that the subfolders of a folder are classes, not train/ and test/.

    Args:
        root: The folder.
        where: Its config key, for messages.
        wanted: The split that is looked for.

    Raises:
        DataError: They are splits, as of the folder above.
    """
    folders = class_folders(root)
    known = TRAIN_FOLDERS + HELD_OUT_FOLDERS
    splits = [name for name in folders if name.lower() in known]
    if (len(splits) > 1 or splits == folders) and any(class_folders(Path(root, s)) for s in splits):
        right = Path(root, wanted if wanted in splits else splits[0])
        expected = f'a folder whose subfolders are classes, such as {str(right)!r}'
        raise DataError.expected(where, expected, f'the splits {", ".join(splits)}')


def check_once(names: Sequence[str]) -> None:
    """Check that no class comes twice, of which one would have no image.

    Raises:
        DataError: One does.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    DataError.check(not twice, 'dataset.metainfo.classes', 'each name once', f'{twice} more often')


def label_order(folders: Sequence[str], names: Sequence[str], where: str) -> list[str]:
    """The classes of folders in the order of their labels: that of ``names``, which are the same.

    Raises:
        DataError: They are not, with what each lacks; or a name comes twice.
    """
    check_once(names)
    lacking = [name for name in names if name not in folders]
    others = [folder for folder in folders if folder not in names]
    found = [f'no folder for {lacking}'] * bool(lacking) + [f'folders {others}'] * bool(others)
    expected = 'a folder for each of metainfo.classes and no other'
    DataError.check(not found, where, expected, ' and '.join(found))
    return list(names)


def relabel(data_list: list[dict], own: Sequence[str], names: Sequence[str]) -> None:
    """Make labels, the places of classes in ``own``, their places in ``metainfo.classes``.

    Args:
        data_list: With a ``gt_label`` an image.
        own: The data's own names of the classes.
        names: The same in any order; or others for all of them, which rename them.

    Raises:
        DataError: They are neither.
    """
    if len(names) == len({*names} - {*own}) == len(own):
        return
    unknown = [name for name in names if name not in own]
    lacking = [name for name in own if name not in names]
    expected = f'the {len(own)} classes of the data in any order, or other names for all of them'
    found = f'{len(names)} names, unknown ones {some(unknown)}; without {some(lacking)}'
    DataError.check(sorted(names) == sorted(own), 'dataset.metainfo.classes', expected, found)
    places = [names.index(name) for name in own]
    for info in data_list:
        info['gt_label'] = places[info['gt_label']]


def images_in_folders(
    root: str | Path,
    classes: Sequence[str],
    extensions: Collection[str],
    where: str,
    test_mode: bool = False,
    expected: str = 'images',
) -> list[tuple[str, int]]:
    """Images by their paths in a folder of class folders, and their labels.

    Other files are counted, and classes of no image or, in training, of one are named in the log.

    Args:
        root: The folder.
        classes: Names of its subfolders in the order of the labels.
        extensions: Suffixes of images.
        where: Config key of the folder, for messages.
        test_mode: The images are not for training.
        expected: What could be there, for messages.

    Raises:
        DataError: There is none.
    """
    beside = (e.name for e in os.scandir(root) if e.is_file() and not is_hidden(e.name))
    images, others = [], [(name, -1) for name in beside]
    for folder in sorted(classes):
        for name in files_below(os.path.join(root, folder)):
            kept = images if name.lower().endswith(tuple(extensions)) else others
            kept.append((os.path.join(folder, name), classes.index(folder)))
    suffixes = ', '.join(sorted(extensions))
    expected = f'{expected} ({suffixes}) in the subfolders'
    DataError.check(images, where, expected, f'{len(others)} other files' if others else 'none')
    logger = MMLogger.get_current_instance()
    if others:
        found = some(sorted({Path(name).suffix or name for name, _ in others}), number=10)
        logger.info(f'{where}: {len(others)} other files ignored ({found}) beside {suffixes}')
    count = Counter(label for _, label in images)
    for number, words in enumerate(('no image', 'one image')[: 1 if test_mode else 2]):
        few = [name for label, name in enumerate(classes) if count[label] == number]
        if few:
            logger.warning(f'{where}: {words} of {", ".join(few)}')
    return images


def read_annotations(
    path: str | Path, classes: Sequence[str] | None
) -> tuple[list[str], list[int], list[str] | None, int]:
    """Read a file with a line ``IMAGE LABEL`` for each image.

    Columns are separated by spaces, or by tabs, commas or semicolons, then perhaps with a header.
    Labels are names, or numbers from 0; or from 1, where none is 0 and the largest is the number of
    classes.

    Args:
        path: The file.
        classes: Names of the classes, where they are known.

    Returns:
        The images, their labels from 0, the classes (those of labels that are names, if none were
        known), and the line of the first image.

    Raises:
        DataError: It cannot be read; a line has more or fewer columns; a label is neither a number
            nor a class; or numbers may be from 0 or from 1.
    """
    images, labels, first = columns(path, classes)
    is_number = [bool(_number(label)) for label in labels]
    if not all(is_number):
        named = not any(is_number) or {*labels} & {*(classes or ())}
        classes = list(classes or sorted({*labels}))
        expected = f'one of the classes {some(classes, number=20)}' if named else 'a number'
        for line, (label, number) in enumerate(zip(labels, is_number, strict=True), first):
            ok = label in classes if named else number
            DataError.check(ok, f'{path}, line {line}', expected, repr(label))
        return images, [classes.index(label) for label in labels], classes, first
    numbers = [int(label) for label in labels]
    low, high = min(numbers), max(numbers)
    above = bool(classes) and high >= len(classes)
    from_1 = bool(classes) and low == 1 and high == len(classes)
    places = [number - from_1 for number in numbers]
    fits = from_1 or (low == 0 and not above)
    if classes and {*labels} <= {*classes}:  # names that are numbers
        named = [classes.index(label) for label in labels]
        expected = 'a label that is not the name of one class and the number of another'
        for line, (name, place) in enumerate(zip(named, places, strict=True), first):
            found = repr(labels[line - first])
            DataError.check(not fits or name == place, f'{path}, line {line}', expected, found)
        return images, named, classes, first
    if fits:
        return images, places, classes, first
    worst = numbers.index(high if above and low >= 0 else low)
    expected = 'a label 0 in the file, or metainfo.classes, by which labels from 1 are known'
    if classes:
        end = len(classes)
        expected = f'names, or labels 0..{end - 1} with a 0 or 1..{end} with a {end} in the file'
    raise DataError.expected(f'{path}, line {first + worst}', expected, numbers[worst])


_number = re.compile(r'-?\d+').fullmatch


def columns(path: str | Path, classes: Sequence[str] | None) -> tuple[list[str], list[str], int]:
    """Images and labels of an annotation file as they are written, and the first line of them.

    Args:
        path: The file; see :func:`read_annotations`.
        classes: Known names of classes, if any.

    Raises:
        DataError: It cannot be read, or a line has more or fewer columns.
    """
    expected = 'IMAGE LABEL, or IMAGE,LABEL'
    lines = read_lines(path, f'lines {expected}')
    known = {*(classes or ())}
    rows, separator = [line.rsplit(maxsplit=1) for line in lines], None
    if not all(len(row) == 2 and (_number(row[1]) or row[1] in known) for row in rows):
        written = [line for line in lines if line.strip()]
        separator = next((s for s in '\t,;' if all(s in line for line in written)), None)
    if separator:
        rows = list(csv.reader(lines, delimiter=separator, skipinitialspace=True))
    # A quote that is not closed joins lines.
    for number, (row, line) in enumerate(zip(rows, lines, strict=False), 1):
        DataError.check(len(row) == 2, f'{path}, line {number}', expected, repr(line))
    images, labels = ([cell.strip() for cell in column] for column in zip(*rows, strict=True))
    # No image is dropped for a header, whatever its name is.
    suffixes = [bool(Path(image).suffix) for image in images[:2]]
    header = int(suffixes == [False, True] and not (_number(labels[0]) or labels[0] in known))
    return images[header:], labels[header:], 1 + header


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


def check_files(folder: str, names: Sequence[str], source: str) -> None:
    """Check that files are there, by their paths in a folder.

    Raises:
        DataError: One is not.
    """
    folders = Folders()
    paths = [os.path.split(os.path.join(folder, name)) for name in names]
    missing = [os.path.join(*path) for path in paths if path[1] not in folders[path[0]]]
    expected = f'images relative to {folder}'
    found = f'{len(missing)} that are not there, {min(missing, default="")} for one'
    DataError.check(not missing, source, expected, found)


class Folders(dict):
    """Names of the files in a folder, listed when first asked for.

    A look at each of COCO's files takes minutes on a network's disk.
    """

    def __missing__(self, folder: str) -> set[str]:
        self[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        return self[folder]

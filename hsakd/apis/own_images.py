"""A folder of anybody's images: its classes, a split, and what a training has to know of it."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.model_selection import train_test_split

from hsakd.datasets.base import (
    DECODE_ERRORS,
    HELD_OUT_FOLDERS,
    IMAGE_EXTENSIONS,
    TRAIN_FOLDERS,
    class_folders,
    image_sizes,
    images_in_folders,
    open_image,
)
from hsakd.utils.errors import ConfigError, DataError

#: Images that statistics are taken from.
_SAMPLE = 1000
#: Side of the images that networks get, by the side of those in the folder.
_SIDES = ((40, 32), (96, 64))


@dataclass
class OwnImages:
    """Images by class, split into those to train on and those to test on.

    Attributes:
        name: Of the folder, as it stands in names of configs.
        classes: Names, in the order of their labels.
        train: Keyword arguments of :class:`~hsakd.datasets.ImageFolder`.
        test: The same.
        count: Images to train on, and to test on.
        size: Height and width that images are made, in pixels.
        mean: Of the channels R, G, B of training images, 0 to 255.
        std: The same.
        note: How the split came about.
        files: Of the split, where it was made: content by path.
    """

    name: str
    classes: list[str]
    train: dict
    test: dict
    count: tuple[int, int]
    size: int
    mean: list[float]
    std: list[float]
    note: str
    files: dict[Path, bytes]


def look_at(data: str | Path, out: Path, size: int | None = None, share: float = 0.2) -> OwnImages:
    """Look at a folder of class folders, or of two with those to train and to test on.

    Without a second one, a stratified share of each class is held out: the same images in every
    call, to be listed in OUT/split/*.txt. Nothing is written.

    Args:
        data: The folder.
        out: For the lists of a split.
        size: Height and width of images for networks, in pixels; by default 32 or 64 for images
            that are about as small, else 224.
        share: Of images to hold out.

    Raises:
        DataError: It has no classes of images, or a class has one image alone.
        ConfigError: ``size`` is no number of pixels, or ``out`` is inside of the folder.
    """
    root = Path(data).expanduser()
    where = f'data={str(data)!r}'
    expected = (
        'a folder with a subfolder of images for each class, or with train/ and test/ of such'
    )
    DataError.check(
        root.is_dir(), where, expected, 'a file' if root.is_file() else 'no such folder'
    )
    inside = out.resolve().is_relative_to(root.resolve())
    ConfigError.check(not inside, f'out={str(out)!r}', 'a folder outside of data', where)
    folders = class_folders(root)
    parts = [_first(folders, names) for names in (TRAIN_FOLDERS, HELD_OUT_FOLDERS)]
    if parts[0]:
        both = f'{parts[0]}/ and one of {", ".join(HELD_OUT_FOLDERS)}'
        DataError.check(parts[1], where, both, folders)
        train_root, test_root = (root / part for part in parts)
    else:
        train_root = test_root = root
    classes = class_folders(train_root)
    DataError.check(len(classes) > 1, where, f'{expected}; two classes or more', classes)
    listed = images_in_folders(train_root, classes, IMAGE_EXTENSIONS, where)
    names, labels = [name for name, _ in listed], np.array([label for _, label in listed])
    common = dict(type='ImageFolder', metainfo=dict(classes=classes))
    if parts[0]:
        held_out = images_in_folders(test_root, classes, IMAGE_EXTENSIONS, where, test_mode=True)
        train, test = (dict(common, data_root=str(p)) for p in (train_root, test_root))
        count, note = (len(names), len(held_out)), f'{parts[0]}/ and {parts[1]}/ as they are'
        files = {}
    else:
        train, test, count, names, files = _split(
            root, names, labels, classes, common, out, share, where
        )
        note = f'{count[1]} of {sum(count)} images held out, by class, in {out}/split'
    paths = [str(train_root / name) for name in _some(names)]
    size = _side(paths, where) if size is None else size
    ok = type(size) is int and 8 <= size <= 2048
    ConfigError.check(ok, 'image_size', 'a number of pixels from 8 to 2048', repr(size))
    name = re.sub(r'[^A-Za-z0-9]+', '-', root.resolve().name).strip('-') or 'images'
    return OwnImages(
        name, classes, train, test, count, size, *_statistics(paths, size), note, files
    )


def _first(folders: list[str], names: tuple[str, ...]) -> str | None:
    return next((folder for name in names for folder in folders if folder.lower() == name), None)


def _split(
    root: Path,
    names: list[str],
    labels: np.ndarray,
    classes: list[str],
    common: dict,
    out: Path,
    share: float,
    where: str,
) -> tuple[dict, dict, tuple[int, int], list[str], dict[Path, bytes]]:
    few = [classes[label] for label, n in enumerate(np.bincount(labels)) if n < 2]
    DataError.check(not few, where, 'two images or more of each class, to test on one', few)
    number = max(len(classes), round(share * len(names)))
    parts = train_test_split(range(len(names)), test_size=number, stratify=labels, random_state=0)
    files, settings = {}, []
    for part, indices in zip(('train', 'test'), parts, strict=True):
        lines = [f'{names[i]}\t{classes[labels[i]]}' for i in sorted(indices)]
        path = out / 'split' / f'{part}.txt'
        files[path] = ('\n'.join(lines) + '\n').encode()
        settings.append(dict(common, data_root=str(root), ann_file=str(path.resolve())))
    kept = [names[i] for i in parts[0]]
    return *settings, (len(parts[0]), len(parts[1])), kept, files


def _some(names: list[str]) -> list[str]:
    step = max(1, len(names) // _SAMPLE)
    return names[::step]


def _side(paths: list[str], where: str) -> int:
    sizes = [size for size in image_sizes(paths) if size]
    DataError.check(sizes, where, 'images that can be read', f'none among {len(paths)}')
    side = np.median([min(size) for size in sizes])
    return next((made for largest, made in _SIDES if side <= largest), 224)


def _statistics(paths: list[str], size: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of channels R, G, B."""
    pixels = []
    for path in paths:
        try:
            with open_image(path) as image:
                pixels.append(np.asarray(image.convert('RGB').resize((size, size), Image.BILINEAR)))
        except (DataError, *DECODE_ERRORS):  # for the training to name, or skip
            continue
    channels = np.stack(pixels).reshape(-1, 3)
    mean, std = channels.mean(0, dtype=float), channels.std(0, dtype=float)
    return [round(float(v), 2) for v in mean], [round(max(float(v), 1.0), 2) for v in std]


def describe(images: OwnImages) -> str:
    """One line for the terminal."""
    shown = ', '.join(images.classes[:5]) + ', ...' * (len(images.classes) > 5)
    trained, tested = images.count
    return (
        f'{images.name}: {trained:,} images to train on and {tested:,} to test on, '
        f'{len(images.classes)} classes ({shown}), {images.size}x{images.size} pixels; '
        f'{images.note}'
    )

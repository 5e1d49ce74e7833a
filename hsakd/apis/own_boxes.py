"""A folder of anybody's images with boxes: its layout, classes, a split, and COCO's JSON of it."""

import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from sklearn.model_selection import train_test_split

from hsakd.datasets.base import (
    HELD_OUT_FOLDERS,
    IMAGE_EXTENSIONS,
    TRAIN_FOLDERS,
    files_below,
    image_sizes,
    read_lines,
)
from hsakd.utils.errors import DataError
from hsakd.utils.files import write_files
from hsakd.utils.third_party import import_mmdet

#: COCO's JSON: lists of images, annotations and categories.
Content = dict[str, list[dict]]

_LAYOUTS = (
    "VOC's layout (Annotations/*.xml, JPEGImages/, perhaps ImageSets/Main/*.txt), COCO's "
    "(annotations/*.json and the images) or YOLO's (images/, labels/*.txt, each perhaps with "
    'train/ and val/ in or above it, and data.yaml or classes.txt)'
)
#: Lists in ImageSets/Main to train on and to test on; the first two that are there.
_VOC_LISTS = (('trainval', 'test'), ('train', 'val'), ('train', 'test'))
_YOLO_LINE = 'CLASS X Y WIDTH HEIGHT: a number of a class from 0, and the box in 0..1 of the image'


@dataclass
class OwnBoxes:
    """Images with boxes, split into those to train on and those to test on.

    Attributes:
        name: Of the folder, as it stands in names of configs.
        layout: 'VOC', 'COCO' or 'YOLO'.
        root: What names of images are relative to.
        classes: Names, in the order of their labels.
        train: The file for COCO's JSON of the images to train on.
        test: The same of those to test on.
        contents: What is to be in both.
        size: The longest side of the images in pixels, its median.
        note: How the split came about.
        files: What :meth:`write` writes, by path.
    """

    name: str
    layout: str
    root: Path
    classes: list[str]
    train: Path
    test: Path
    contents: tuple[Content, Content]
    size: int
    note: str
    files: dict[Path, bytes]

    def write(self) -> None:
        """Write the JSON files, and the split where it was made.

        Raises:
            DataError: Other data was written there before.
        """
        for path, content in self.files.items():
            same = not path.is_file() or path.read_bytes() == content
            expected = 'the same data as before, or another folder to write to (out)'
            DataError.check(same, str(path), expected, 'other images or boxes')
        write_files(self.files)


def look_at_boxes(
    data: str | Path, out: Path, skip_bad_images: bool = False, share: float = 0.2
) -> OwnBoxes:
    """Look at a folder in the layout of VOC, COCO or YOLO. Nothing is written.

    Without a split, a share of the images is held out: the same ones in every call. Boxes are
    clipped to their images, and dropped where less than a pixel is left, which is logged.

    Args:
        data: The folder.
        out: For annotations/{train,test}.json and, where a split is made, split/*.txt.
        skip_bad_images: Leave out and count images that are missing or cannot be decoded.
        share: Of images to hold out.

    Raises:
        DataError: It is no such folder, or what is in it is broken; with file and line.
    """
    root, where = Path(data).expanduser(), f'data={str(data)!r}'
    expected = f'a folder in {_LAYOUTS}'
    found = 'a file' if root.is_file() else 'no such folder'
    DataError.check(root.is_dir(), where, expected, found)
    import_mmdet()
    if any(root.glob('Annotations/*.xml')):
        layout, (classes, parts) = 'VOC', _read_voc(root)
    elif any(root.glob('annotations/*.json')):
        layout, (classes, parts) = 'COCO', _read_coco(root)
    elif folders := _yolo_folders(root):
        layout, (classes, parts) = 'YOLO', _read_yolo(root, folders)
    else:
        shown = sorted(path.name for path in root.iterdir())[:10]
        raise DataError.expected(where, expected, f'a folder with {shown or "nothing"}')
    DataError.check(classes, where, 'boxes', f"none in a folder in {layout}'s layout")
    files, note = {}, f'{" and ".join(parts)} as they are'
    if len(parts) == 1:
        parts = _split(*parts.values(), share, where)
        note = f'a fifth of the images is held out, see {out}/split'
        for name, content in parts.items():
            lines = ''.join(f'{image["file_name"]}\n' for image in content['images'])
            files[out / f'split/{name}.txt'] = lines.encode()
    contents = [
        _checked(content, f'{where}, {name}', root, classes, skip_bad_images)
        for name, content in parts.items()
    ]
    train, test = (out / f'annotations/{name}.json' for name in ('train', 'test'))
    for path, content in zip((train, test), contents, strict=True):
        files[path] = json.dumps(content).encode()
    sides = [max(image['width'], image['height']) for c in contents for image in c['images']]
    name = re.sub(r'[^A-Za-z0-9]+', '-', root.resolve().name).strip('-') or 'images'
    return OwnBoxes(
        name, layout, root.resolve(), classes, train, test, tuple(contents),
        round(float(np.median(sides))), note, files,
    )  # fmt: skip


def describe_boxes(found: OwnBoxes) -> str:
    """One line for the terminal."""
    shown = ', '.join(found.classes[:5]) + ', ...' * (len(found.classes) > 5)
    images, boxes = (
        [len(content[kind]) for content in found.contents] for kind in ('images', 'annotations')
    )
    empty = sum(
        len(c['images']) - len({entry['image_id'] for entry in c['annotations']})
        for c in found.contents
    )
    return (
        f"{found.name}, in {found.layout}'s layout: {images[0]:,} images with {boxes[0]:,} boxes "
        f'to train on and {images[1]:,} with {boxes[1]:,} to test on, {empty} of them without a '
        f'box; {len(found.classes)} classes ({shown}); {found.note}'
    )


def _checked(
    content: Content, source: str, root: Path, classes: Sequence[str], skip_bad_images: bool
) -> Content:
    from hsakd.datasets.detection import CocoDataset

    dataset = CocoDataset(
        ann_file=source,
        data_prefix=dict(img=str(root)),
        metainfo=dict(classes=tuple(classes)),
        skip_bad_images=skip_bad_images,
        lazy_init=True,
    )
    return dataset.checked(content)


def _split(content: Content, share: float, where: str) -> dict[str, Content]:
    images = content['images']
    DataError.check(len(images) > 1, where, 'two images or more, to test on one', len(images))
    parts = train_test_split(range(len(images)), test_size=share, random_state=0)
    splits = {}
    for name, indices in zip(('train', 'test'), parts, strict=True):
        kept = {images[i]['id'] for i in indices}
        splits[name] = dict(
            content,
            images=[image for image in images if image['id'] in kept],
            annotations=[entry for entry in content['annotations'] if entry['image_id'] in kept],
        )
    return splits


def _first_of(names: Sequence[str], accepted: Sequence[str]) -> str | None:
    """Of names such as instances_val2017, the first that has one of the accepted words in it."""
    words = {name: re.findall('[a-z]+', name.lower()) for name in names}
    return next((name for word in accepted for name in names if word in words[name]), None)


def _two_parts(names: Sequence[str]) -> tuple[str, ...]:
    """The names of what to train on and what to test on; of the first alone, or none."""
    found = _first_of(names, TRAIN_FOLDERS), _first_of(names, HELD_OUT_FOLDERS)
    return tuple(filter(None, found))


def _content(
    images: Sequence[tuple[str, tuple[int, int], Sequence[tuple]]], classes: Sequence[str]
) -> Content:
    """COCO's content.

    Args:
        images: Name, (width, height) and of each object the label, the box x1, y1, x2, y2 and
            whether it is not to be counted.
        classes: Names.
    """
    content = dict(
        images=[],
        annotations=[],
        categories=[dict(id=number, name=name) for number, name in enumerate(classes, 1)],
    )
    for image_id, (name, (width, height), objects) in enumerate(images, 1):
        content['images'].append(dict(id=image_id, file_name=name, width=width, height=height))
        for label, (x1, y1, x2, y2), crowd in objects:
            content['annotations'].append(
                dict(
                    id=len(content['annotations']) + 1,
                    image_id=image_id,
                    category_id=label + 1,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                    iscrowd=int(crowd),
                )
            )
    return content


def _images_in(folder: Path) -> dict[str, str]:
    """Images of a folder and its subfolders, by their paths in it without suffix."""
    names = files_below(folder) if folder.is_dir() else []
    images = [name for name in names if name.lower().endswith(IMAGE_EXTENSIONS)]
    return {os.path.splitext(name)[0]: name for name in images}


def _read_voc(root: Path) -> tuple[list[str], dict[str, Content]]:
    from hsakd.datasets.detection.voc import read_voc_xml

    images = _images_in(root / 'JPEGImages')
    lists = root / 'ImageSets/Main'
    pair = next(
        (p for p in _VOC_LISTS if all((lists / f'{name}.txt').is_file() for name in p)), None
    )
    annotated = sorted(path.stem for path in root.glob('Annotations/*.xml'))
    if pair:
        expected = 'a list of image names, one a line'
        lines = {name: read_lines(lists / f'{name}.txt', expected) for name in pair}
        parts = {
            f'ImageSets/Main/{name}.txt': sorted({line.strip() for line in found} - {''})
            for name, found in lines.items()
        }
    else:
        parts = {'all': sorted({*annotated, *images})}
    read = {
        name: read_voc_xml(str(root / f'Annotations/{name}.xml'))
        for names in parts.values()
        for name in names
        if pair or name in annotated
    }
    classes = sorted({kind for *_, objects in read.values() for kind, *_ in objects})

    def of(name: str) -> tuple[str, tuple[int, int], list[tuple]]:
        file = f'JPEGImages/{images.get(name, name + ".jpg")}'
        width, height, objects = read.get(name, (0, 0, ()))
        found = [(classes.index(kind), box, difficult) for kind, difficult, box in objects]
        return file, (width, height), found

    return classes, {
        part: _content([of(name) for name in names], classes) for part, names in parts.items()
    }


def _read_coco(root: Path) -> tuple[list[str], dict[str, Content]]:
    from hsakd.datasets.detection.coco import read_coco

    files = sorted(path.stem for path in root.glob('annotations/*.json'))
    files = [name for name in files if name.startswith('instances')] or files
    found = files if len(files) == 1 else _two_parts(files)
    where, expected = f'{root}/annotations', 'one .json, or one to train on and one to test on'
    two = ' (of names with the words train, and val or test)'
    DataError.check(len(files) == 1 or len(found) == 2, where, expected + two, ', '.join(files))
    parts = {}
    for name in found:
        path = root / f'annotations/{name}.json'
        content = read_coco(str(path))
        names = [str(image['file_name']) for image in content['images']]
        split = name.removeprefix('instances_')
        places = [root / place for place in ('images', split, f'images/{split}', '.')]
        words = re.findall('[a-z]+', split.lower())  # train, of train2017
        places += [root / word for word in words] + [root / 'images' / word for word in words]
        # That of the most images: what is missing is told by its checks.
        folder = max(places, key=lambda place: sum((place / n).is_file() for n in names[:100]))
        for image in content['images']:
            image['file_name'] = os.path.relpath(folder / str(image['file_name']), root)
        parts[f'annotations/{name}.json'] = content
    classes = [str(entry['name']) for entry in next(iter(parts.values()))['categories']]
    return classes, parts


def _yolo_folders(root: Path) -> dict[str, tuple[str, str]]:
    """Folders of images and of labels, by the name of the split; '' where there is none."""
    above = _two_parts(sorted(path.parent.name for path in root.glob('*/labels')))
    if above or not (root / 'labels').is_dir():
        return {name: (f'{name}/images', f'{name}/labels') for name in above}
    inside = sorted(path.name for path in root.glob('images/*') if path.is_dir())
    split = {name: (f'images/{name}', f'labels/{name}') for name in _two_parts(inside)}
    return split or {'': ('images', 'labels')}


def _read_yolo(
    root: Path, folders: dict[str, tuple[str, str]]
) -> tuple[list[str], dict[str, Content]]:
    classes = _yolo_classes(root)
    parts = {}
    for images_in, labels_in in folders.values():
        images = _images_in(root / images_in)
        labels = [n[:-4] for n in files_below(root / labels_in) if n.endswith('.txt')]
        labels = {name for name in labels if name != 'classes'}
        names = sorted({*images, *labels})
        files = [f'{images_in}/{images.get(name, name + ".jpg")}' for name in names]
        sizes = image_sizes([str(root / file) for file in files])
        found = []
        for name, file, size in zip(names, files, sizes, strict=True):
            path = root / labels_in / f'{name}.txt'
            size = size or (0, 0)
            objects = _yolo_boxes(path, classes, size) if name in labels else []
            found.append((file, size, objects))
        parts[images_in] = _content(found, classes)
    return classes, parts


def _yolo_classes(root: Path) -> list[str]:
    """Names of data.yaml or classes.txt."""
    paths = [root / name for name in ('data.yaml', 'data.yml', 'classes.txt', 'labels/classes.txt')]
    path = next((path for path in paths if path.is_file()), None)
    expected = 'data.yaml with names of the classes, or classes.txt with one a line'
    DataError.check(path, str(root), expected, 'neither')
    if path.suffix == '.txt':
        names = [line.strip() for line in read_lines(path, expected)]
    else:
        try:
            names = yaml.safe_load(path.read_text(encoding='utf-8'))['names']
        except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
            found = ' '.join(f'{type(error).__name__}: {error}'.split())
            raise DataError.expected(f'{path}, names', expected, found) from error
    if isinstance(names, dict):
        numbers = sorted(names, key=lambda number: (str(type(number)), number))
        where, wanted = f'{path}, names', f'numbers 0..{len(names) - 1} of the classes'
        DataError.check(numbers == [*range(len(names))], where, wanted, numbers)
        names = [names[number] for number in numbers]
    ok = isinstance(names, list) and names and all(names) and len({*map(str, names)}) == len(names)
    DataError.check(ok, f'{path}, names', 'different names of classes', repr(names))
    return [str(name) for name in names]


def _yolo_boxes(path: Path, classes: Sequence[str], size: tuple[int, int]) -> list[tuple]:
    """Label, box in pixels, and False, of each line."""
    try:
        lines = path.read_text(encoding='utf-8-sig').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError.expected(str(path), f'lines {_YOLO_LINE}', error) from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f'{path}, line {number}'
        try:
            label, x, y, width, height = map(float, line.split())
        except ValueError:
            raise DataError.expected(where, _YOLO_LINE, repr(line)) from None
        inside = all(0 <= v <= 1 for v in (x, y, width, height)) and math.isfinite(label)
        DataError.check(inside and label == int(label), where, _YOLO_LINE, repr(line))
        last, names = len(classes) - 1, ', '.join(classes[:5])
        numbers = f'a class 0..{last} ({names}{", ..." * (last > 4)})'
        DataError.check(0 <= label <= last, where, numbers, int(label))
        columns, rows = size
        # To thousandths of a pixel, which labels of six digits hold of most images.
        box = (x - width / 2) * columns, (y - height / 2) * rows
        box += (x + width / 2) * columns, (y + height / 2) * rows
        found.append((int(label), tuple(round(v, 3) for v in box), False))
    return found

"""Small detection data in the layouts of PASCAL VOC and COCO, for tests.

The pictures hold one to three colored shapes on noise. A class has a color and a shape of its
own, so that a small detector can learn them.
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ('disc', 'square')
_COLORS = [(230, 30, 30), (30, 90, 230), (30, 200, 60), (230, 210, 30), (200, 40, 210)]
Shape = tuple[str, tuple[int, int, int, int]]


def draw_picture(
    rng: np.random.Generator, classes: tuple[str, ...], first: int, size: tuple[int, int]
) -> tuple[Image.Image, list[Shape]]:
    """A picture of ``size`` (width, height) and its shapes: (class, (x1, y1, x2, y2)).

    Boxes hold the pixels x1 <= x < x2, y1 <= y < y2. Shapes do not overlap. The class of the first
    is ``classes[first]``.
    """
    width, height = size
    noise = rng.integers(90, 150, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    draw = ImageDraw.Draw(image)
    cell_w, cell_h = width // 3, height // 2
    shapes = []
    for i, cell in enumerate(rng.permutation(6)[: rng.integers(1, 4)]):
        label = first if i == 0 else int(rng.integers(len(classes)))
        side = int(rng.integers(min(cell_w, cell_h) * 2 // 3, min(cell_w, cell_h)))
        x1 = int(cell % 3 * cell_w + rng.integers(cell_w - side + 1))
        y1 = int(cell // 3 * cell_h + rng.integers(cell_h - side + 1))
        shape = draw.rectangle if label % 2 else draw.ellipse
        shape((x1, y1, x1 + side - 1, y1 + side - 1), fill=_COLORS[label % len(_COLORS)])
        shapes.append((classes[label], (x1, y1, x1 + side, y1 + side)))
    return image, shapes


def _pictures(
    splits: dict[str, int], classes: tuple[str, ...], size: tuple[int, int], seed: int
) -> Iterator[tuple[str, str, Image.Image, list[Shape]]]:
    """(split, name, picture, shapes) of all splits, each picture and name another."""
    rng = np.random.default_rng(seed)
    number = 0
    for split, count in splits.items():
        for i in range(count):
            number += 1
            yield split, f'{number:06d}', *draw_picture(rng, classes, i % len(classes), size)


def _add(parent: ElementTree.Element, **texts: object) -> None:
    for tag, text in texts.items():
        ElementTree.SubElement(parent, tag).text = str(text)


def voc_xml(name: str, size: tuple[int, int], shapes: list[Shape]) -> str:
    """Annotation of one picture as in VOC, with boxes from 1 that hold their last pixel."""
    root = ElementTree.Element('annotation')
    _add(root, folder='VOC', filename=f'{name}.jpg')
    _add(ElementTree.SubElement(root, 'size'), width=size[0], height=size[1], depth=3)
    _add(root, segmented=0)
    for class_name, (x1, y1, x2, y2) in shapes:
        element = ElementTree.SubElement(root, 'object')
        _add(element, name=class_name, pose='Unspecified', truncated=0, difficult=0)
        box = ElementTree.SubElement(element, 'bndbox')
        _add(box, xmin=x1 + 1, ymin=y1 + 1, xmax=x2, ymax=y2)
    ElementTree.indent(root, '\t')
    return ElementTree.tostring(root, encoding='unicode') + '\n'


def write_voc(
    root: Path,
    splits: dict[str, int],
    classes: tuple[str, ...] = CLASSES,
    size: tuple[int, int] = (64, 48),
    seed: int = 0,
) -> Path:
    """Write pictures of ``splits`` (name: number) as VOC is laid out; names run from 000001."""
    root = Path(root)
    for folder in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (root / folder).mkdir(parents=True)
    names: dict[str, list[str]] = {split: [] for split in splits}
    for split, name, image, shapes in _pictures(splits, classes, size, seed):
        image.save(root / 'JPEGImages' / f'{name}.jpg', quality=95)
        (root / 'Annotations' / f'{name}.xml').write_text(voc_xml(name, size, shapes))
        names[split].append(name)
    for split, members in names.items():
        text = ''.join(f'{name}\n' for name in members)
        (root / 'ImageSets/Main' / f'{split}.txt').write_text(text)
    return root


def write_coco(
    root: Path,
    splits: dict[str, int],
    classes: tuple[str, ...] = CLASSES,
    size: tuple[int, int] = (64, 48),
    seed: int = 0,
) -> Path:
    """Write the same pictures as ``write_voc`` as COCO is laid out.

    Images lie in ``{split}/000001.jpg``, boxes in ``annotations/instances_{split}.json``, with
    category ids from 1.
    """
    root = Path(root)
    (root / 'annotations').mkdir(parents=True)
    contents: dict[str, dict[str, list]] = {}
    for split in splits:
        (root / split).mkdir()
        categories = [
            {'id': i, 'name': name, 'supercategory': 'none'} for i, name in enumerate(classes, 1)
        ]
        contents[split] = {'images': [], 'annotations': [], 'categories': categories}
    for split, name, image, shapes in _pictures(splits, classes, size, seed):
        image.save(root / split / f'{name}.jpg', quality=95)
        content = contents[split]
        image_id = int(name)
        content['images'].append(
            {'id': image_id, 'file_name': f'{name}.jpg', 'width': size[0], 'height': size[1]}
        )
        for class_name, (x1, y1, x2, y2) in shapes:
            content['annotations'].append(
                {
                    'id': len(content['annotations']) + 1,
                    'image_id': image_id,
                    'category_id': classes.index(class_name) + 1,
                    'bbox': [x1, y1, x2 - x1, y2 - y1],
                    'area': (x2 - x1) * (y2 - y1),
                    'iscrowd': 0,
                }
            )
    for split, content in contents.items():
        path = root / 'annotations' / f'instances_{split}.json'
        path.write_text(json.dumps(content, indent=1))
    return root


def write_yolo(
    root: Path,
    splits: dict[str, int],
    classes: tuple[str, ...] = CLASSES,
    size: tuple[int, int] = (64, 48),
    seed: int = 0,
) -> Path:
    """Write the same pictures as ``write_voc`` as YOLO's trainers take them.

    Images lie in ``images/{split}/000001.jpg``, labels in ``labels/{split}/000001.txt``, and names
    of the classes in ``data.yaml``. A split '' has no folder.
    """
    root = Path(root)
    for split, kind in itertools.product(splits, ('images', 'labels')):
        (root / kind / split).mkdir(parents=True)
    (root / 'data.yaml').write_text(f'names: {list(classes)}\n')
    for split, name, image, shapes in _pictures(splits, classes, size, seed):
        image.save(root / 'images' / split / f'{name}.jpg', quality=95)
        lines = []
        for class_name, (x1, y1, x2, y2) in shapes:
            # VOC's boxes, whose last pixel is inside and which mmdet makes one smaller.
            box = [(x1 + x2 - 1) / 2 / size[0], (y1 + y2 - 1) / 2 / size[1]]
            box += [(x2 - 1 - x1) / size[0], (y2 - 1 - y1) / size[1]]
            lines.append(' '.join([str(classes.index(class_name)), *(f'{v:.6f}' for v in box)]))
        (root / 'labels' / split / f'{name}.txt').write_text('\n'.join(lines) + '\n')
    return root

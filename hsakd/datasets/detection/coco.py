import contextlib
import io
import json
import math
import os

from mmdet.datasets import CocoDataset as MMDetCocoDataset
from mmdet.datasets.api_wrappers import COCO

from hsakd.datasets.base import Folders, image_sizes
from hsakd.registry import DATASETS
from hsakd.utils.checks import is_number
from hsakd.utils.errors import DataError

from .boxes import AnnotationReport
from .checked import CheckedAnnotations

#: What has to be there; the rest has defaults.
_KEYS = {
    'categories': {'id', 'name'},
    'images': {'id', 'file_name'},
    'annotations': {'image_id', 'category_id', 'bbox'},
}
_ANN_FILE = "COCO's JSON, such as annotations/instances_train2017.json"


def read_coco(path: str) -> dict[str, list[dict]]:
    """COCO's JSON, with what many exports leave out: id, iscrowd and area of annotations.

    ``iscrowd`` is 0 by default, and ``area`` that of the box.

    Raises:
        DataError: It is missing, no JSON, or not in COCO's layout.
    """
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except OSError as error:
        raise DataError.expected(path, _ANN_FILE, error.strerror) from error
    except ValueError as error:  # with line and column
        raise DataError.expected(path, _ANN_FILE, f'no JSON ({error})') from error
    for kind, keys in _KEYS.items():
        entries = content.get(kind) if isinstance(content, dict) else None
        expected = f'a list {kind!r} of {_ANN_FILE}'
        DataError.check(isinstance(entries, list), path, expected, type(entries).__name__)
        for position, entry in enumerate(entries):
            missing = keys - entry.keys() if isinstance(entry, dict) else keys
            if missing:
                where, found = f'{path}, {kind}[{position}]', f'no {", ".join(sorted(missing))}'
                raise DataError.expected(where, ', '.join(sorted(keys)), found)
    numbered = all('id' in entry for entry in content['annotations'])
    for number, entry in enumerate(content['annotations'], 1):
        entry['id'] = entry['id'] if numbered else number
        entry['iscrowd'] = int(entry.get('iscrowd') or 0)
        if entry.get('area') is None and is_box(entry['bbox']):
            entry['area'] = entry['bbox'][2] * entry['bbox'][3]
    return content


def coco_api(content: dict[str, list[dict]]) -> COCO:
    """What mmdet reads annotations with, of a content of :func:`read_coco`."""
    api = COCO()
    api.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):  # it prints that it does
        api.createIndex()
    api.img_ann_map, api.cat_img_map = api.imgToAnns, api.catToImgs
    return api


def is_box(value: object) -> bool:
    """Whether a value is four finite numbers."""
    return isinstance(value, list) and len(value) == 4 and all(map(_is_finite, value))


@DATASETS.register_module()
class CocoDataset(CheckedAnnotations, MMDetCocoDataset):
    """COCO, or data in its layout, as mmdet reads it but checked.

    Labels are positions in ``metainfo.classes`` whatever the order of the categories in the file;
    mmdet's ``CocoMetric`` goes by the order of its own file, with which SetupCheckHook compares.

    Boxes are clipped to 0..width and 0..height, and dropped where a side is shorter than one pixel
    (mmdet's rule) or ``area`` is not positive.

    Args:
        skip_bad_images: See :class:`CheckedAnnotations`.
        ignore_other_classes: See :class:`CheckedAnnotations`; here it is the file's categories that
            count, with or without boxes.
        **kwargs: Of mmdet's ``CocoDataset``; images lie in ``data_prefix.img``, by default
            ``data_root``.
    """

    ANN_FILE = _ANN_FILE

    def load_checked(self) -> list[dict]:
        """Load the checked annotations of COCO's JSON file."""
        self.data_prefix.setdefault('img', self.data_root)
        return MMDetCocoDataset.load_data_list(self)

    def COCOAPI(self, path: str) -> COCO:
        """What mmdet reads the annotation file with, here of its checked and cleaned content."""
        return coco_api(self.checked(read_coco(path)))

    def checked(self, content: dict[str, list[dict]]) -> dict[str, list[dict]]:
        """What is sound of a content of :func:`read_coco`, with boxes cleaned.

        What is left out is logged, with ``ann_file`` as its source.

        Raises:
            DataError: As :meth:`load_data_list`.
        """
        for kind in _KEYS:
            self.check_different((entry['id'] for entry in content[kind]), f'id of {kind}')
        self.check_different((entry['name'] for entry in content['categories']), 'category')
        DataError.check(content['images'], self.ann_file, self.ANN_FILE, 'no image')
        report = AnnotationReport(self.ann_file, tuple(self._metainfo['classes']))
        categories = self._own_categories(content['categories'], report)
        self._check_images(content['images'], report)
        annotations = self._clean(content, report)
        report.close(len(content['images']), self.skip_bad_images, self.ignore_other_classes)
        return {
            # mmdet numbers the classes in this order.
            'categories': categories,
            'images': [i for i in content['images'] if i['id'] not in report.bad_images],
            'annotations': [a for a in annotations if a['image_id'] not in report.bad_images],
        }

    def _own_categories(self, categories: list[dict], report: AnnotationReport) -> list[dict]:
        """Pick the categories of the config, in its order, and report the others."""
        by_name = {entry['name']: entry for entry in categories}
        missing = [name for name in report.classes if name not in by_name]
        expected = f'a category for each of metainfo.classes, among {", ".join(map(repr, by_name))}'
        DataError.check(not missing, self.ann_file, expected, f'none for {missing}')
        for name in by_name:
            if name not in report.classes:
                report.other_boxes[name] = 0
                report.other_files[name] = self.ann_file
        return [by_name[name] for name in report.classes]

    def _check_images(self, images: list[dict], report: AnnotationReport) -> None:
        folders = Folders()
        paths = [os.path.join(self.data_prefix['img'], image['file_name']) for image in images]
        found = image_sizes(paths, self.max_pixels)
        for image, path, size in zip(images, paths, found, strict=True):
            folder, name = os.path.split(path)
            annotated = tuple(image.get(key, 0) for key in ('width', 'height'))
            if all(map(_is_finite, annotated)):
                size = report.size(path, size, annotated)
            image['width'], image['height'] = size = size or annotated
            if name not in folders[folder]:
                report.bad_images[image['id']] = f'{path}: expected an image, got no file'
            elif not all(_is_finite(side) and side >= 1 for side in size):
                where = f'{self.ann_file}, width and height of {image["file_name"]}'
                report.bad_images[image['id']] = f'{where}: expected positive numbers, got {size}'

    def _clean(self, content: dict[str, list[dict]], report: AnnotationReport) -> list[dict]:
        """Annotations with boxes to use, of the classes of the config."""
        names = {entry['id']: entry['name'] for entry in content['categories']}
        images = {image['id']: image for image in content['images']}
        kept = []
        for entry in content['annotations']:
            image_id, category, box = entry['image_id'], entry['category_id'], entry['bbox']
            where = f'{self.ann_file}, annotation {entry["id"]!r}'
            DataError.check(image_id in images, where, 'an image_id of images', repr(image_id))
            wrong = ''
            if category not in names:
                wrong = f'a category_id of {[*names]}, got {category!r}'
            elif not is_box(box):
                wrong = f'bbox [x, y, width, height] in numbers, got {box!r}'
            elif not _is_finite(entry['area']):
                wrong = f'a number for its area, got {entry["area"]!r}'
            if wrong:
                report.bad_images.setdefault(image_id, f'{where}: expected {wrong}')
            # mmdet does not read those with 'ignore'.
            if image_id in report.bad_images or entry.get('ignore'):
                continue
            image = images[image_id]
            x, y, width, height = box
            corners = (x, y, x + width, y + height)
            cleaned = report.add_box(
                names[category],
                corners,
                image['width'],
                image['height'],
                image['file_name'],
                drop=entry['area'] <= 0,
            )
            if cleaned == corners:
                kept.append(entry)
            elif cleaned:
                x1, y1, x2, y2 = cleaned
                kept.append({**entry, 'bbox': [x1, y1, x2 - x1, y2 - y1]})
        return kept


def _is_finite(value: object) -> bool:
    return is_number(value) and math.isfinite(value)

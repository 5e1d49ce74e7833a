import math
import os
from xml.etree import ElementTree

from mmdet.datasets import VOCDataset as MMDetVOCDataset

from hsakd.datasets.base import (
    DECODE_ERRORS,
    IMAGE_EXTENSIONS,
    Folders,
    image_sizes,
    open_image,
    read_lines,
    unreadable,
)
from hsakd.registry import DATASETS
from hsakd.utils.errors import ConfigError, DataError

from .boxes import AnnotationReport, Box
from .checked import CheckedAnnotations

_OTHERS = ', '.join(IMAGE_EXTENSIONS)
_SUFFIXES = [form for suffix in ('.jpg', *IMAGE_EXTENSIONS) for form in (suffix, suffix.upper())]


@DATASETS.register_module()
class VOCDataset(CheckedAnnotations, MMDetVOCDataset):
    """PASCAL VOC, or data in its layout, as mmdet reads it but checked.

    Below ``data_prefix.sub_data_root`` (``data_root`` if not given) are ``JPEGImages/NAME.jpg`` (or
    another suffix), ``Annotations/NAME.xml``, and NAMEs a line in ``ann_file``, such as
    ``ImageSets/Main/trainval.txt``.

    VOC's coordinates are pixels counted from 1, the last one included, so mmdet subtracts 1 from
    all four. A box is inside the image if then 0 <= x1, x2 <= width - 1 (and so for y): VOC's
    boxes, 1..width, are never changed. Others are clipped. Training takes x2 - x1 for the width, so
    boxes of a single pixel's width or height have no area; they are dropped, in test splits too.

    Args:
        skip_bad_images: See :class:`CheckedAnnotations`.
        ignore_other_classes: See :class:`CheckedAnnotations`.
        **kwargs: Of mmdet's ``VOCDataset``.
    """

    ANN_FILE = 'a list of image names, one a line, such as ImageSets/Main/trainval.txt'

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        if tuple(self._metainfo['classes']) != self.METAINFO['classes']:
            # With a type mmdet's metric would print VOC's class names.
            self._metainfo['dataset_type'] = None

    @property
    def sub_data_root(self) -> str:
        """The folder of ``JPEGImages`` and ``Annotations``."""
        return self.data_prefix.get('sub_data_root', self.data_root)

    def load_checked(self) -> list[dict]:
        """Load the checked annotations of VOC's XML files."""
        ConfigError.check(
            not (self.test_mode and self.bbox_min_size is not None),
            'dataset.filter_cfg.bbox_min_size',
            'none but in training',
            self.bbox_min_size,
        )
        lines = read_lines(self.ann_file, self.ANN_FILE)
        names = [line.strip() for line in lines if line.strip()]
        self.check_different(names, 'image')
        folders = Folders()
        report = AnnotationReport(self.ann_file, tuple(self._metainfo['classes']))
        data_list = []
        paths = [self._image_path(name, folders) for name in names]
        sizes = image_sizes(paths, self.max_pixels)
        for name, path, size in zip(names, paths, sizes, strict=True):
            try:
                data_list.append(self._read_image(name, path, size, report))
            except DataError as error:
                report.bad_images[name] = str(error)
        report.close(len(names), self.skip_bad_images, self.ignore_other_classes)
        return data_list

    def _image_path(self, name: str, folders: Folders) -> str:
        """The file of an image; empty where there is none."""
        path = os.path.join(self.sub_data_root, self.img_subdir, name)
        folder, stem = os.path.split(path)
        suffix = next((form for form in _SUFFIXES if stem + form in folders[folder]), None)
        return path + suffix if suffix else ''

    def _read_image(
        self, name: str, path: str, size: tuple[int, int] | None, report: AnnotationReport
    ) -> dict:
        wanted = os.path.join(self.sub_data_root, self.img_subdir, f'{name}.jpg')
        DataError.check(path, wanted, f'an image (or {_OTHERS})', 'no file')
        xml_path = os.path.join(self.sub_data_root, self.ann_subdir, f'{name}.xml')
        width, height, objects = read_voc_xml(xml_path)
        width, height = report.size(path, size, (width, height))
        if not (width and height):
            try:
                with open_image(path, self.max_pixels):
                    pass
            except DECODE_ERRORS as error:
                raise unreadable(path, error) from error
        instances = []
        for class_name, difficult, box in objects:
            box = report.add_box(class_name, box, width - 1, height - 1, xml_path)
            if box is None:
                continue
            small = min(box[2] - box[0], box[3] - box[1]) < (self.bbox_min_size or 0)
            instances.append(
                dict(
                    bbox=list(box),
                    bbox_label=self._metainfo['classes'].index(class_name),
                    ignore_flag=int(difficult or small),
                )
            )
        return dict(
            img_path=path,
            img_id=name,
            xml_path=xml_path,
            height=height,
            width=width,
            instances=instances,
        )


def read_voc_xml(path: str) -> tuple[int, int, list[tuple[str, bool, Box]]]:
    """Read an annotation of one image.

    Returns:
        Width, height (0 where it has none), and of each object the class, whether it is difficult,
        and the box in whole pixels from 0 (VOC's minus 1).

    Raises:
        DataError: It is missing, no XML, or lacks a number.
    """
    expected = 'an annotation in XML'
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise DataError.expected(path, expected, error.strerror) from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # with line and column
        raise DataError.expected(path, expected, f'no well-formed one ({error})') from error
    width, height = (_number(root, f'size/{key}', path, default='0') for key in ('width', 'height'))
    objects = []
    for position, element in enumerate(root.findall('object'), 1):
        name = element.findtext('name', '').strip()
        where = f'{path}, object {position} ({name!r})'
        DataError.check(name, where, 'the name of a class', 'none')
        difficult = _number(element, 'difficult', where, default='0')
        keys = ('xmin', 'ymin', 'xmax', 'ymax')
        box = tuple(_number(element, f'bndbox/{key}', where) - 1 for key in keys)
        objects.append((name, bool(difficult), box))
    return max(width, 0), max(height, 0), objects


def _number(element: ElementTree.Element, key: str, where: str, default: str | None = None) -> int:
    text = element.findtext(key, default)
    try:
        number = float(text)
        if math.isfinite(number):
            return int(number)  # as mmdet
    except (TypeError, ValueError):
        pass
    raise DataError.expected(f'{where}, {key}', 'a number', 'none' if text is None else repr(text))

"""Boxes that a detector can be trained on, and an account of what was wrong with the others."""

from collections import Counter
from dataclasses import dataclass, field

from mmengine.logging import MMLogger

from hsakd.datasets.base import some
from hsakd.utils.errors import DataError

#: x1, y1, x2, y2 in pixels.
Box = tuple[float, float, float, float]

# COCO's own boxes leave their images by as much as their two decimals were rounded.
_ROUNDING = 0.1
# Of x1 + width - x1 in floats.
_DUST = 1e-6


def clean_box(box: Box, max_x: float, max_y: float) -> Box | None:
    """The part of a box inside its image, or None where a side of it is shorter than one pixel.

    A box whose x1 is above its x2 (or y1 above y2) has no such part.

    Args:
        box: As annotated.
        max_x: The largest x of the image; the smallest is 0.
        max_y: The largest y.
    """
    x1, x2 = (min(max(x, 0), max_x) for x in box[::2])
    y1, y2 = (min(max(y, 0), max_y) for y in box[1::2])
    return (x1, y1, x2, y2) if min(x2 - x1, y2 - y1) > 1 - _DUST else None


@dataclass
class AnnotationReport:
    """What is found in the annotations of one split.

    Args:
        source: The split's annotation file, for messages.
        classes: Those of the config.
    """

    source: str
    classes: tuple[str, ...]
    #: Boxes to use, by class.
    boxes: Counter[str] = field(default_factory=Counter)
    #: Boxes of classes that are not in the config, and the first file of each class.
    other_boxes: Counter[str] = field(default_factory=Counter)
    other_files: dict[str, str] = field(default_factory=dict)
    #: The file of each box clipped, and dropped.
    clipped: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    #: Images of another size than annotated.
    resized: list[str] = field(default_factory=list)
    #: What is wrong, by image.
    bad_images: dict[object, str] = field(default_factory=dict)

    def size(
        self, path: str, found: tuple[int, int] | None, annotated: tuple[int, int]
    ) -> tuple[int, int]:
        """Width and height of an image: those of its file, if it can be read, are right.

        Args:
            path: The image.
            found: Of :func:`~hsakd.datasets.base.image_sizes`.
            annotated: 0 or less where the annotation has none.
        """
        if found and min(annotated) > 0 and found != annotated:
            shown = ' and not '.join('x'.join(map(str, size)) for size in (found, annotated))
            self.resized.append(f'{path}: {shown}')
        return found or annotated

    def add_box(
        self, name: str, box: Box, max_x: float, max_y: float, file: str, drop: bool = False
    ) -> Box | None:
        """The box cleaned by :func:`clean_box` and counted; None where it is not to be used.

        Args:
            name: Its class.
            box: As annotated.
            max_x: Of the image.
            max_y: Of the image.
            file: Where it is, for messages.
            drop: It is known to have no area.
        """
        if name not in self.classes:
            self.other_boxes[name] += 1
            self.other_files.setdefault(name, file)
            return None
        cleaned = None if drop else clean_box(box, max_x, max_y)
        if cleaned is None:
            self.dropped.append(file)
            return None
        if any(abs(a - b) > _ROUNDING for a, b in zip(box, cleaned, strict=True)):
            self.clipped.append(file)
        self.boxes[name] += 1
        return cleaned

    def close(self, num_images: int, skip_bad_images: bool, ignore_other_classes: bool) -> None:
        """Log what was found, once all of the split is read.

        Args:
            num_images: Of the split, bad ones included.
            skip_bad_images: Bad images are left out and not an error.
            ignore_other_classes: Boxes of other classes are not an error.

        Raises:
            DataError: A bad image; no image that is not bad; a class that is not in the config; no
                box at all.
        """
        logger = MMLogger.get_current_instance()
        bad = len(self.bad_images)
        if bad and not skip_bad_images:
            raise DataError(
                f'{next(iter(self.bad_images.values()))} (of {num_images} images in {self.source}, '
                f'{bad} are missing or have a broken annotation; mend or remove them, or leave '
                'them out with skip_bad_images=True)'
            )
        if bad:
            shown = some(self.bad_images.values(), '; ')
            logger.warning(f'{self.source}: skipped {bad} of {num_images} images: {shown}')
        expected = f'a good image among {num_images}'
        DataError.check(bad < num_images, self.source, expected, 'none')
        classes = ', '.join(map(repr, self.classes))
        if self.other_boxes:
            found = ', '.join(
                f'{name!r} ({count} boxes, e.g. in {self.other_files[name]})'
                for name, count in self.other_boxes.most_common()
            )
            DataError.check(
                ignore_other_classes,
                self.source,
                f'classes of metainfo.classes ({classes}), or ignore_other_classes=True, which '
                'leaves the boxes of others out',
                found,
            )
            logger.info(f'{self.source}: left out boxes of other classes: {found}')
        if self.resized:
            logger.warning(
                f'{self.source}: {len(self.resized)} of {num_images} images have another size than '
                f'annotated, and that of the file counts: {some(self.resized)}'
            )
        dirty = [
            f'{len(files)} {what} ({some(dict.fromkeys(files))})'
            for files, what in (
                (self.clipped, 'clipped to the image'),
                (self.dropped, 'dropped since a side of the part in the image is below one pixel'),
            )
            if files
        ]
        if dirty:
            total = self.boxes.total() + len(self.dropped)
            logger.warning(f'{self.source}: of {total} boxes {", ".join(dirty)}')
        DataError.check(self.boxes, self.source, f'boxes of {classes}', 'none')
        absent = [name for name in self.classes if not self.boxes[name]]
        if absent:
            logger.warning(f'{self.source}: no box of {", ".join(map(repr, absent))}')

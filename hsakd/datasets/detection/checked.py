import os
from collections import Counter
from collections.abc import Iterable

from hsakd.datasets.base import DECODE_ERRORS, MAX_PIXELS, CheckedImages, open_image, unreadable
from hsakd.utils.errors import ConfigError, DataError


class CheckedAnnotations(CheckedImages):
    """What the checked data sets share, to be mixed into one of mmdet's.

    Args:
        skip_bad_images: Leave out and count images that are missing, cannot be decoded (each is
            decoded once at the start), or have a broken annotation. By default they are an error.
        ignore_other_classes: Leave out and count boxes of classes that ``metainfo.classes`` lacks,
            to train on a subset. By default they are an error.
        max_pixels: An image that says it has more is an error, and not decoded.
        **kwargs: Of mmdet's data set.
    """

    def __init__(
        self,
        skip_bad_images: bool = False,
        ignore_other_classes: bool = False,
        max_pixels: int = MAX_PIXELS,
        **kwargs,
    ) -> None:
        self.max_pixels = max_pixels
        self.ignore_other_classes = ignore_other_classes
        super().__init__(skip_bad_images, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Load the annotations that are sound, as mmdet does.

        Raises:
            ConfigError: ``metainfo.classes`` is no list of different names.
            DataError: The annotation file is missing, broken or empty; an image is missing or its
                annotation broken; a class is not in ``metainfo.classes``.
        """
        classes = self._metainfo['classes']
        ConfigError.check(
            not isinstance(classes, str) and len(set(classes)) == len(classes),
            'dataset.metainfo.classes',
            "a tuple of different names, ('name',) for a single one",
            repr(classes),
        )
        found = os.path.isfile(self.ann_file)
        DataError.check(found, f'dataset.ann_file={self.ann_file!r}', self.ANN_FILE, 'no file')
        return super().load_data_list()

    def prepare_data(self, index: int) -> object:
        """Run the pipeline on an image whose size was checked.

        Raises:
            DataError: The image has too many pixels, or is none.
        """
        path = self.get_data_info(index)['img_path']
        try:
            with open_image(path, self.max_pixels):
                pass
        except DECODE_ERRORS as error:
            raise unreadable(path, error) from error
        try:
            return super().prepare_data(index)
        except AssertionError as error:
            if not str(error).startswith('failed to load image'):  # mmcv's
                raise
            raise unreadable(path, 'one of which OpenCV reads the header alone') from error

    def check_different(self, names: Iterable[object], what: str) -> None:
        """Raise a DataError where one comes twice."""
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            found = f'{twice[0]!r} more than once, and {len(twice)} such in all'
            raise DataError.expected(self.ann_file, f'each {what} once', found)

    def filter_data(self) -> list[dict]:
        """Filter images by ``filter_cfg``, as mmdet does.

        Raises:
            DataError: No image is left.
        """
        kept = super().filter_data()
        if not kept:
            min_size = self.filter_cfg.get('min_size', 0)
            small = sum(min(info['width'], info['height']) < min_size for info in self.data_list)
            empty = sum(not info['instances'] for info in self.data_list)
            raise DataError.expected(
                f'{self.ann_file}, dataset.filter_cfg={dict(self.filter_cfg)}',
                f'some of {len(self.data_list)} images to be left',
                f'{empty} without a box of {", ".join(map(repr, self._metainfo["classes"]))} '
                f'(filter_empty_gt), {small} with a side below min_size={min_size}',
            )
        return kept

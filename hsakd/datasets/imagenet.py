import os
from pathlib import Path

from mmpretrain.datasets import ImageNet as MMPretrainImageNet

from hsakd.registry import DATASETS
from hsakd.utils.errors import DataError

from .base import (
    IMAGE_EXTENSIONS,
    CheckedImages,
    check_files,
    check_split,
    class_folders,
    images_in_folders,
    read_lines,
)


@DATASETS.register_module()
class ImageNet(CheckedImages, MMPretrainImageNet):
    """ImageNet or a subset of its classes, in either of its layouts.

    Where there is ``data_root/meta/SPLIT.txt``, its lines ``IMAGE LABEL`` say what the images are,
    ``IMAGE`` relative to ``data_root/SPLIT/`` and labels from 0. Otherwise they are
    ``data_root/SPLIT/CLASS/**/IMAGE``, and the labels are those of the class folders in
    alphabetical order. Each split may have its own layout.

    The classes are those of the training split: its folders or, with ``meta/train.txt``, its labels
    up to the largest. If there are 1000 they have ImageNet's names.

    Args:
        data_root: The folder with ``train/``, ``val/`` and perhaps ``meta/``.
        split: 'train' or 'val'.
        **kwargs: Of :class:`CheckedImages` (``skip_bad_images``) and mmpretrain's ``ImageNet``.
    """

    mean = (0.485 * 255, 0.456 * 255, 0.406 * 255)
    std = (0.229 * 255, 0.224 * 255, 0.225 * 255)

    def __init__(self, data_root: str, split: str, **kwargs) -> None:
        self.split = check_split(split, ('train', 'val'), 'ImageNet')
        self.root = Path(data_root).expanduser()
        folder = self.root / split
        DataError.check(
            any(folder.glob('*')),
            f'dataset.data_root={str(data_root)!r}',
            f'a folder with {split}/CLASS/IMAGE, or with {split}/IMAGE and meta/{split}.txt',
            f'nothing in {str(folder)!r}',
        )
        super().__init__(
            data_root=str(self.root), split=split, **{'extensions': IMAGE_EXTENSIONS, **kwargs}
        )

    def load_checked(self) -> list[dict]:
        """One ``img_path`` and ``gt_label`` an image.

        Raises:
            DataError: No image; or the annotation file is missing, or one of its lines is not as it
                should be or names an image that is not there.
        """
        where = f'dataset.data_root={self.data_root!r}'
        names = self._metainfo.pop('classes')
        if self.ann_file:
            data_list = self._annotated_images()
            classes = self._annotated_classes(data_list)
        else:
            classes = class_folders(self.img_prefix)
            if sorted(names) == classes:
                classes = list(names)
            expected = f'meta/{self.split}.txt, or images'
            images = images_in_folders(
                self.img_prefix, classes, self.extensions, where, self.test_mode, expected
            )
            data_list = [
                dict(img_path=os.path.join(self.img_prefix, name), gt_label=label)
                for name, label in images
            ]
        DataError.check(
            len(names) in (len(classes), len(self.METAINFO['classes'])),
            'dataset.classes',
            f'{len(classes)} names, for the classes of {self.data_root!r}',
            len(names),
        )
        self._metainfo['classes'] = tuple(names if len(names) == len(classes) else classes)
        return data_list

    def _annotated_images(self) -> list[dict]:
        names, labels = self._read_annotations(Path(self.ann_file))
        paths = [os.path.join(self.img_prefix, name) for name in names]
        if not self.skip_bad_images:
            check_files(self.img_prefix, names, self.ann_file)
        return [dict(img_path=p, gt_label=label) for p, label in zip(paths, labels, strict=True)]

    def _annotated_classes(self, data_list: list[dict]) -> list[str]:
        """The classes of the training split, or of this one where there is no other."""
        labels = [info['gt_label'] for info in data_list]
        train = self.root / 'train'
        folders = class_folders(train) if train.is_dir() else []
        train_file = self.root / 'meta' / 'train.txt'
        count = max(labels) + 1
        if self.split != 'train':
            if train_file.is_file():
                count = max(self._read_annotations(train_file)[1]) + 1
            elif folders:
                count = len(folders)
        if max(labels) >= count:
            line = 1 + next(i for i, label in enumerate(labels) if label >= count)
            expected = f'a label in 0..{count - 1}, the classes of the training split'
            raise DataError.expected(f'{self.ann_file}, line {line}', expected, labels[line - 1])
        return folders if len(folders) == count else [str(label) for label in range(count)]

    def _read_annotations(self, path: Path) -> tuple[list[str], list[int]]:
        """Names and labels of the images."""
        names, labels = [], []
        largest = len(self.METAINFO['classes']) - 1
        expected = f'IMAGE LABEL, with a label in 0..{largest}'
        for number, line in enumerate(read_lines(path, f'lines {expected}'), 1):
            name, label = [*line.rsplit(maxsplit=1), '', ''][:2]
            if not (label.isdecimal() and int(label) <= largest):
                raise DataError.expected(f'{path}, line {number}', expected, repr(line))
            names.append(name)
            labels.append(int(label))
        return names, labels

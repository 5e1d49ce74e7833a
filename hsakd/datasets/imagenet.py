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
    columns,
    held_out,
    images_in_folders,
    label_order,
    read_annotations,
    relabel,
)


@DATASETS.register_module()
class ImageNet(CheckedImages, MMPretrainImageNet):
    """ImageNet or a subset of its classes, in either of its layouts.

    Of ``val`` and ``test`` the one that is there is taken where the other is not. Where there is
    ``data_root/meta/SPLIT.txt``, its lines ``IMAGE LABEL`` say what the images are, ``IMAGE``
    relative to ``data_root/SPLIT/``; labels are numbers from 0, or from 1 up to the number of class
    folders in ``train/``, or names of these. Otherwise images are
    ``data_root/SPLIT/CLASS/**/IMAGE``, and the labels are those of the class folders in
    alphabetical order. Each split may have its own layout.

    The classes are those of the training split: its folders or, with ``meta/train.txt``, its labels
    up to the largest. If there are 1000 they have ImageNet's names.

    Args:
        data_root: The folder with ``train/``, ``val/`` or ``test/``, and perhaps ``meta/``.
        split: 'train', 'val' or 'test'.
        **kwargs: Of :class:`CheckedImages` (``skip_bad_images``) and mmpretrain's ``ImageNet``.
    """

    mean = (0.485 * 255, 0.456 * 255, 0.406 * 255)
    std = (0.229 * 255, 0.224 * 255, 0.225 * 255)

    def __init__(self, data_root: str, split: str, **kwargs) -> None:
        check_split(split, ('train', 'val', 'test'), 'ImageNet')
        self.root = Path(data_root).expanduser()
        folder = held_out(self.root / split)
        self.split = folder.name
        either = '' if split == 'train' else ' (val/ or test/, whichever is there)'
        layout = f'{split}/CLASS/IMAGE, or with {split}/IMAGE and meta/{split}.txt'
        DataError.check(
            any(folder.glob('*')),
            f'dataset.data_root={str(data_root)!r}',
            f'a folder with {layout}{either}',
            f'nothing in {str(folder)!r}',
        )
        # mmpretrain takes images of 'test' for ones without labels.
        listed = Path('meta', f'{self.split}.txt')
        if not kwargs.get('ann_file') and (self.root / listed).is_file():
            kwargs['ann_file'] = str(listed)
        kwargs = {'data_prefix': self.split, 'extensions': IMAGE_EXTENSIONS, **kwargs}
        super().__init__(data_root=str(self.root), **kwargs)

    def load_checked(self) -> list[dict]:
        """One ``img_path`` and ``gt_label`` an image.

        Raises:
            DataError: No image; or the annotation file is missing, or one of its lines is not as it
                should be or names an image that is not there.
        """
        where = f'dataset.data_root={self.data_root!r}'
        names = self._metainfo.pop('classes')
        given = tuple(names) != tuple(self.METAINFO['classes'])
        if self.ann_file:
            data_list, classes = self._annotated()
        else:
            classes = class_folders(self.img_prefix)
            if given:
                classes = label_order(classes, names, where)
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
        if given:
            relabel(data_list, classes, names)
        self._metainfo['classes'] = tuple(names if len(names) == len(classes) else classes)
        return data_list

    def _annotated(self) -> tuple[list[dict], list[str]]:
        """Images, and the classes of the training split, or of this one where there is no other."""
        train, train_file = self.root / 'train', self.root / 'meta' / 'train.txt'
        folders = class_folders(train) if train.is_dir() else []
        names, labels, first = self._read_annotations(self.ann_file, folders)
        if not self.skip_bad_images:
            check_files(self.img_prefix, names, self.ann_file)
        has_list = self.split == 'train' or train_file.is_file()
        of_train = labels
        if self.split != 'train' and has_list:
            of_train = self._read_annotations(train_file, folders)[1]
        start = int(min(of_train) == 1 and max(of_train) == len(folders))  # of numbers from 1
        end = len(folders) + start if folders and not has_list else max(of_train) + 1
        end = min(end, len(self.METAINFO['classes']) + start)
        expected = f'a label in {start}..{end - 1}, the classes of the training split'
        for line, label in enumerate(labels, first):
            DataError.check(start <= label < end, f'{self.ann_file}, line {line}', expected, label)
        data_list = [
            dict(img_path=os.path.join(self.img_prefix, name), gt_label=label - start)
            for name, label in zip(names, labels, strict=True)
        ]
        count = end - start
        numbers = [str(label) for label in range(count)]
        return data_list, folders if len(folders) == count else numbers

    def _read_annotations(
        self, path: str | Path, folders: list[str]
    ) -> tuple[list[str], list[int], int]:
        """Images, their labels (names are places in ``folders``), and the first line of them."""
        names, labels, first = columns(path, folders)
        if folders and not any(label.isdecimal() for label in labels):
            return names, read_annotations(path, folders)[1], first
        largest = len(self.METAINFO['classes'])
        expected = f'IMAGE LABEL, with a label in 0..{largest - 1} or the name of a class folder'
        for line, (name, label) in enumerate(zip(names, labels, strict=True), first):
            ok = label.isdecimal() and int(label) <= largest
            DataError.check(ok, f'{path}, line {line}', expected, repr(f'{name} {label}'))
        return names, [int(label) for label in labels], first

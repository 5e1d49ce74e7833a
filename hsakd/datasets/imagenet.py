import os
from collections import defaultdict
from pathlib import Path

from mmpretrain.datasets import ImageNet as MMPretrainImageNet
from mmpretrain.datasets.custom import find_folders

from hsakd.registry import DATASETS
from hsakd.utils.errors import ConfigError, DataError

from .image_folder import drop_bad_images


@DATASETS.register_module()
class ImageNet(MMPretrainImageNet):
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
        skip_bad_images: Decode every image once at the start, and leave out and count those that
            cannot be. None is left out by default; the first one met stops the run.
        **kwargs: Of mmpretrain's ``ImageNet``.
    """

    def __init__(self, data_root: str, split: str, skip_bad_images: bool = False, **kwargs) -> None:
        if split not in ('train', 'val'):
            raise ConfigError(
                f"dataset.split={split!r} of ImageNet: accepted are 'train' and 'val'"
            )
        self.split = split
        self.skip_bad_images = skip_bad_images
        self.root = Path(data_root).expanduser()
        folder = self.root / split
        if not any(folder.glob('*')):
            found = 'is empty' if folder.is_dir() else 'does not exist'
            raise DataError(
                f'dataset.data_root={str(data_root)!r}: {str(folder)!r} {found}; accepted is a '
                f'folder with {split}/CLASS/IMAGE, or with {split}/IMAGE and meta/{split}.txt'
            )
        super().__init__(data_root=str(self.root), split=split, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One ``img_path`` and ``gt_label`` an image.

        Raises:
            DataError: No image, or none that can be decoded; or the annotation file is missing, or
                one of its lines is not as it should be or names an image that is not there.
        """
        names = self._metainfo.pop('classes')
        if self.ann_file:
            data_list = self._annotated_images()
            classes = self._annotated_classes(data_list)
        else:
            try:
                data_list = super().load_data_list()
            except RuntimeError as error:  # mmpretrain found no image
                raise DataError(
                    f'dataset.data_root={self.data_root!r}: no image in the subfolders of '
                    f'{self.split}/ and no meta/{self.split}.txt; accepted are either, with '
                    f'{", ".join(sorted(self.extensions))}'
                ) from error
            classes = self._metainfo['classes']
        if len(names) not in (len(classes), len(self.METAINFO['classes'])):
            raise DataError(
                f'dataset.classes has {len(names)} names, and {self.data_root!r} {len(classes)} '
                'classes; accepted are equal numbers'
            )
        self._metainfo['classes'] = tuple(names if len(names) == len(classes) else classes)
        return drop_bad_images(data_list, self.data_root) if self.skip_bad_images else data_list

    def _annotated_images(self) -> list[dict]:
        names, labels = self._read_annotations(Path(self.ann_file))
        if not self.skip_bad_images:
            self._check_that_all_exist(names)
        return [
            dict(img_path=os.path.join(self.img_prefix, name), gt_label=label)
            for name, label in zip(names, labels, strict=True)
        ]

    def _annotated_classes(self, data_list: list[dict]) -> list[str]:
        """Of the training split, whatever its layout, or of this one where there is no other."""
        labels = [info['gt_label'] for info in data_list]
        train = self.root / 'train'
        folders = find_folders(str(train))[0] if train.is_dir() else []
        train_file = self.root / 'meta' / 'train.txt'
        count = max(labels) + 1
        if self.split != 'train':
            if train_file.is_file():
                count = max(self._read_annotations(train_file)[1]) + 1
            elif folders:
                count = len(folders)
        if max(labels) >= count:
            line = 1 + next(i for i, label in enumerate(labels) if label >= count)
            raise DataError(
                f'{self.ann_file}, line {line}: label {labels[line - 1]}; accepted are '
                f'0..{count - 1}, the classes of the training split'
            )
        return folders if len(folders) == count else [str(label) for label in range(count)]

    def _read_annotations(self, path: Path) -> tuple[list[str], list[int]]:
        """Names and labels of the images."""
        try:
            lines = path.read_text().rstrip().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f'{path}: cannot be read ({error}); accepted is a text file') from error
        if not lines:
            raise DataError(f'{path} is empty; accepted is one line IMAGE LABEL an image')
        names, labels = [], []
        largest = len(self.METAINFO['classes']) - 1
        for number, line in enumerate(lines, 1):
            name, label = [*line.rsplit(maxsplit=1), '', ''][:2]
            if not (label.isdecimal() and int(label) <= largest):
                raise DataError(
                    f'{path}, line {number}: {line!r}; accepted is IMAGE LABEL, with a label in '
                    f'0..{largest}'
                )
            names.append(name)
            labels.append(int(label))
        return names, labels

    def _check_that_all_exist(self, names: list[str]) -> None:
        """By one listing of each folder, since a look at each image takes minutes on a network."""
        files = defaultdict(set)
        for name in names:
            folder, file = os.path.split(name)
            files[folder].add(file)
        missing = []
        for folder, wanted in files.items():
            path = Path(self.img_prefix) / folder
            found = os.listdir(path) if path.is_dir() else ()
            missing += [str(path / file) for file in wanted.difference(found)]
        if missing:
            raise DataError(
                f'{self.ann_file} names {len(missing)} images that are not there, {min(missing)} '
                f'for one; accepted are paths relative to {self.img_prefix}'
            )

from collections.abc import Iterator
from pathlib import Path

from mmpretrain.datasets import BaseDataset

from hsakd.registry import DATASETS
from hsakd.utils.errors import DataError

from .base import CheckedImages, check_split, class_folders, is_hidden, read_lines, relabel


@DATASETS.register_module()
class TinyImageNet(CheckedImages, BaseDataset):
    """Tiny-ImageNet in its own layout, as it unpacks.

    Its classes are the WordNet ids of ``wnids.txt``, in that order. Some of its images are gray;
    :class:`~hsakd.datasets.LoadImage` makes them three equal channels.

    Args:
        data_root: The folder ``tiny-imagenet-200`` itself, with ``wnids.txt``.
        split: 'train' (``train/WNID/images/*.JPEG``) or 'val' (``val/images/*.JPEG``, labeled by
            ``val/val_annotations.txt``). The labels of its test images were never published.
        **kwargs: Of :class:`CheckedImages` (``skip_bad_images``) and mmpretrain's ``BaseDataset``.
    """

    image_size = 64

    def __init__(self, data_root: str, split: str, **kwargs) -> None:
        self.split = check_split(split, ('train', 'val'), 'TinyImageNet')
        super().__init__(ann_file='', data_root=str(data_root), **kwargs)

    def load_checked(self) -> list[dict]:
        """One ``img_path`` and ``gt_label`` an image.

        Raises:
            DataError: A file or folder is missing, or does not fit the others; it is named.
        """
        root = Path(self.data_root).expanduser()
        path, expected = root / 'wnids.txt', 'a class a line (data_root is tiny-imagenet-200)'
        classes = tuple(line.strip() for line in read_lines(path, expected))
        twice = [name for name in classes if classes.count(name) > 1]
        DataError.check(not twice, str(path), 'different classes', twice)
        labels = {wnid: label for label, wnid in enumerate(classes)}
        pairs = _train_images if self.split == 'train' else _val_images
        data_list = [
            dict(img_path=str(image), gt_label=labels[wnid])
            for image, wnid in pairs(root / self.split, labels)
        ]
        relabel(data_list, classes, self._metainfo.setdefault('classes', classes))
        return data_list


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob('*.JPEG') if not is_hidden(path.name))


def _train_images(folder: Path, labels: dict[str, int]) -> Iterator[tuple[Path, str]]:
    for name in class_folders(folder) if folder.is_dir() else ():
        DataError.check(name in labels, str(folder), 'classes of wnids.txt', name)
    for wnid in labels:
        images = _images(folder / wnid / 'images')
        DataError.check(images, str(folder / wnid / 'images'), 'files *.JPEG', 'none')
        yield from ((image, wnid) for image in images)


def _val_images(folder: Path, labels: dict[str, int]) -> Iterator[tuple[Path, str]]:
    path, images = folder / 'val_annotations.txt', folder / 'images'
    unlabeled = {image.name for image in _images(images)}
    expected = f'once each image of {images}, with a class of wnids.txt and a box'
    for number, line in enumerate(read_lines(path, expected), 1):
        name, wnid, *_ = [*line.split(), '', '']
        if wnid not in labels or name not in unlabeled:
            raise DataError.expected(f'{path}, line {number}', expected, repr(line))
        unlabeled.remove(name)
        yield images / name, wnid
    if unlabeled:
        found = f'{len(unlabeled)} without a label, {min(unlabeled)} for one'
        raise DataError.expected(str(path), expected, found)

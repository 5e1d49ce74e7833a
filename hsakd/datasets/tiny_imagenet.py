from collections.abc import Iterator
from pathlib import Path

from mmpretrain.datasets import BaseDataset

from hsakd.registry import DATASETS
from hsakd.utils.errors import ConfigError, DataError

from .image_folder import drop_bad_images


@DATASETS.register_module()
class TinyImageNet(BaseDataset):
    """Tiny-ImageNet in its own layout, as it unpacks.

    Its classes are the WordNet ids of ``wnids.txt``, in that order. Some of its images are grey;
    :class:`~hsakd.datasets.LoadImage` makes them three equal channels.

    Args:
        data_root: The folder ``tiny-imagenet-200`` itself, with ``wnids.txt``.
        split: 'train' (``train/WNID/images/*.JPEG``) or 'val' (``val/images/*.JPEG``, labelled by
            ``val/val_annotations.txt``). The labels of its test images were never published.
        skip_bad_images: Decode every image once at the start, and leave out and count those that
            cannot be.
        **kwargs: Of mmpretrain's ``BaseDataset``.
    """

    def __init__(self, data_root: str, split: str, skip_bad_images: bool = False, **kwargs) -> None:
        if split not in ('train', 'val'):
            raise ConfigError(
                f"dataset.split={split!r} of TinyImageNet: accepted are 'train' and 'val'"
            )
        self.split = split
        self.skip_bad_images = skip_bad_images
        super().__init__(ann_file='', data_root=str(data_root), **kwargs)

    def load_data_list(self) -> list[dict]:
        """One ``img_path`` and ``gt_label`` an image.

        Raises:
            DataError: A file or folder is missing, or does not fit the others; it is named.
        """
        root = Path(self.data_root).expanduser()
        path = root / 'wnids.txt'
        classes = tuple(line.strip() for line in _lines(path))
        if len(set(classes)) < len(classes):
            raise DataError(f'{path}: accepted is a different class in every line')
        self._metainfo.setdefault('classes', classes)
        labels = {wnid: label for label, wnid in enumerate(classes)}
        pairs = _train_images if self.split == 'train' else _val_images
        data_list = [
            dict(img_path=str(image), gt_label=labels[wnid])
            for image, wnid in pairs(root / self.split, labels)
        ]
        return drop_bad_images(data_list, self.data_root) if self.skip_bad_images else data_list


def _train_images(folder: Path, labels: dict[str, int]) -> Iterator[tuple[Path, str]]:
    for path in folder.glob('*/'):
        if path.name not in labels:
            raise DataError(f'{path}: accepted are the classes of wnids.txt, and this is none')
    for wnid in labels:
        images = sorted((folder / wnid / 'images').glob('*.JPEG'))
        if not images:
            raise DataError(
                f'{folder / wnid / "images"}: no .JPEG file; accepted is the whole '
                'tiny-imagenet-200'
            )
        yield from ((image, wnid) for image in images)


def _val_images(folder: Path, labels: dict[str, int]) -> Iterator[tuple[Path, str]]:
    annotations, images = folder / 'val_annotations.txt', folder / 'images'
    unlabelled = {path.name for path in images.glob('*.JPEG')}
    for number, line in enumerate(_lines(annotations), 1):
        where = f'{annotations}, line {number}'
        name, wnid, *_ = [*line.split(), '', '']
        if wnid not in labels:
            raise DataError(
                f'{where}: class {wnid!r}; accepted are an image, a class of wnids.txt and a box'
            )
        if name not in unlabelled:
            raise DataError(
                f'{where}: {name!r} is not in {images}, or labelled before; accepted is one line '
                'for each image'
            )
        unlabelled.remove(name)
        yield images / name, wnid
    if unlabelled:
        raise DataError(
            f'{annotations}: no label for {len(unlabelled)} of the images in {images}, '
            f'{min(unlabelled)} for one; accepted is one line for each image'
        )


def _lines(path: Path) -> list[str]:
    """The lines of a file, at least one."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f'{path}: cannot be read ({error}); accepted is the whole tiny-imagenet-200, with '
            'dataset.data_root its folder'
        ) from error
    if not lines:
        raise DataError(f'{path} is empty; accepted is the whole tiny-imagenet-200')
    return lines

import numpy as np
from mmpretrain.datasets import BaseDataset

from hsakd.registry import DATASETS
from hsakd.utils.errors import DataError

from .base import check_split, read_files, relabel

_IMAGE_BYTES = 3 * 96 * 96


@DATASETS.register_module()
class STL10(BaseDataset):
    """STL-10's labeled images from its binary files, unpacked or not.

    The archive also holds 100,000 images without labels, so that reading it as it is takes the
    time of unpacking at every start.

    Args:
        data_root: The folder with ``stl10_binary/`` or ``stl10_binary.tar.gz``.
        split: 'train' (5,000 images) or 'test' (8,000).
        **kwargs: Of mmpretrain's ``BaseDataset``.
    """

    image_size = 96

    def __init__(self, data_root: str, split: str, **kwargs) -> None:
        self.split = check_split(split, ('train', 'test'), 'STL10')
        super().__init__(ann_file='', data_root=str(data_root), **kwargs)

    def load_data_list(self) -> list[dict]:
        """One ``img`` [96, 96, 3] (uint8, RGB) and ``gt_label`` an image.

        Raises:
            DataError: A file is missing or broken; the message names it.
        """
        names = (f'{self.split}_X.bin', f'{self.split}_y.bin', 'class_names.txt')
        files = read_files(self.data_root, 'stl10_binary', 'stl10_binary.tar.gz', names)
        (images_file, images), (labels_file, labels), (_, classes) = map(files.get, names)
        DataError.check(
            images and not len(images) % _IMAGE_BYTES,
            images_file,
            f'images [3, 96, 96], a multiple of {_IMAGE_BYTES} bytes',
            f'{len(images)} bytes',
        )
        # Channel after channel, and in each of them column after column.
        images = np.frombuffer(images, np.uint8).reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)
        labels = np.frombuffer(labels, np.uint8)
        expected = f'a label for each of {len(images)} images'
        DataError.check(len(labels) == len(images), labels_file, expected, len(labels))
        classes = tuple(classes.decode(errors='replace').split())
        for image in np.flatnonzero((labels < 1) | (labels > len(classes))):
            expected = f'a label in 1..{len(classes)}, the lines of {names[2]}'
            raise DataError.expected(f'{labels_file}, image {image}', expected, labels[image])
        data_list = [
            dict(img=np.ascontiguousarray(image), gt_label=int(label) - 1)
            for image, label in zip(images, labels, strict=True)
        ]
        relabel(data_list, classes, self._metainfo.setdefault('classes', classes))
        return data_list

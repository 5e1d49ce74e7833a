import numpy as np
from mmpretrain.datasets import BaseDataset
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from hsakd.registry import DATASETS
from hsakd.utils.errors import ConfigError

from .base import check_split, relabel


@DATASETS.register_module()
class Digits(BaseDataset):
    """scikit-learn's digits: 1,797 real scans of handwritten digits, inside that package.

    8x8 pixels of 17 gray levels, here as RGB images of uint8 (gray level times 15). The split is
    stratified and always the same.

    Args:
        split: 'train' or 'test'.
        train_size: Images to train on; the others are the test set.
        **kwargs: Of mmengine's ``BaseDataset``.
    """

    METAINFO = {'classes': tuple('0123456789')}
    image_size = 8
    mean = (75.0, 75.0, 75.0)
    std = (90.0, 90.0, 90.0)

    def __init__(self, split: str, train_size: int = 1000, **kwargs) -> None:
        self.split = check_split(split, ('train', 'test'), 'Digits')
        ConfigError.check(
            10 <= train_size <= 1787,
            'dataset.train_size',
            '10..1787 of Digits, so that both splits hold every class',
            train_size,
        )
        self.train_size = train_size
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self) -> list[dict]:
        """One ``img`` [8, 8, 3] (uint8) and ``gt_label`` a scan."""
        digits = load_digits()
        images = np.repeat((digits.images * 15).astype(np.uint8)[..., None], 3, axis=3)
        train, test = train_test_split(
            np.arange(len(images)),
            train_size=self.train_size,
            stratify=digits.target,
            random_state=0,
        )
        chosen = train if self.split == 'train' else test
        data_list = [dict(img=images[i], gt_label=int(digits.target[i])) for i in chosen]
        relabel(data_list, self.METAINFO['classes'], self.CLASSES)
        return data_list

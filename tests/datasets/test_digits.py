from collections import Counter

import numpy as np
import pytest

from hsakd.datasets import Digits
from hsakd.utils.errors import ConfigError


def images(dataset):
    return np.stack([dataset.get_data_info(i)['img'] for i in range(len(dataset))])


def test_split_is_stratified_disjoint_and_whole():
    train = Digits('train', train_size=200, pipeline=[])
    test = Digits('test', train_size=200, pipeline=[])
    assert (len(train), len(test)) == (200, 1597)
    counts = Counter(train.get_data_info(i)['gt_label'] for i in range(200))
    assert set(counts) == set(range(10)) and set(counts.values()) <= {19, 20, 21}
    everything = np.concatenate([images(train), images(test)])
    assert everything.shape == (1797, 8, 8, 3) and everything.dtype == np.uint8
    assert everything.max() == 240 and (everything[..., 0] == everything[..., 2]).all()


@pytest.mark.parametrize(
    'kwargs, named',
    [(dict(split='val'), "split.*'val'"), (dict(split='train', train_size=5), 'train_size.*5')],
)
def test_wrong_arguments(kwargs, named):
    with pytest.raises(ConfigError, match=f'dataset.{named}'):
        Digits(pipeline=[], **kwargs)


def test_labels_are_places_in_the_classes_of_the_config():
    own = Digits('train', train_size=200)
    dataset = Digits('train', train_size=200, metainfo=dict(classes=tuple('9876543210')))
    assert dataset.get_gt_labels().tolist() == (9 - own.get_gt_labels()).tolist()

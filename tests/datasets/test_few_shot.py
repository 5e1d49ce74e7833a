import json
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmpretrain.datasets import BaseDataset

from hsakd.datasets import FewShotSubset
from hsakd.registry import DATASETS
from hsakd.utils.errors import ConfigError, DataError
from tests.conftest import write_image_folder


@DATASETS.register_module()
class Numbered(BaseDataset):
    """Images that are known by their number alone."""

    METAINFO = {'classes': ('a', 'b', 'c')}

    def __init__(self, labels, **kwargs):
        self.labels = labels
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self):
        return [dict(number=i, gt_label=label) for i, label in enumerate(self.labels)]


#: Every class at least once, in any order.
LABELS = st.lists(st.integers(0, 2), max_size=60).flatmap(
    lambda more: st.permutations([0, 1, 2, *more])
)
FRACTIONS = st.floats(0.01, 1.0)
SEEDS = st.integers(0, 2**32 - 1)


def subset(labels, fraction=0.25, seed=0, serialize=False, **kwargs):
    # mmengine's serialization collects garbage, which takes half a second each time.
    dataset = dict(type='Numbered', labels=list(labels), serialize_data=serialize)
    return FewShotSubset(dataset=dataset, fraction=fraction, seed=seed, **kwargs)


def numbers(dataset):
    return [dataset.get_data_info(i)['number'] for i in range(len(dataset))]


@given(LABELS, FRACTIONS, SEEDS)
def test_every_class_has_its_share(labels, fraction, seed):
    chosen = numbers(subset(labels, fraction, seed))
    assert len(set(chosen)) == len(chosen)
    found, whole = Counter(labels[i] for i in chosen), Counter(labels)
    for label in range(3):
        assert found[label] >= 1
        assert found[label] == 1 or abs(found[label] - fraction * whole[label]) <= 0.5 + 1e-9


@given(LABELS, FRACTIONS, SEEDS, st.integers(0, 2**32 - 1))
def test_the_runs_random_state_has_no_part(labels, fraction, seed, global_seed):
    first = numbers(subset(labels, fraction, seed))
    np.random.seed(global_seed)
    torch.manual_seed(global_seed)
    state = np.random.get_state()[1].copy()
    assert numbers(subset(labels, fraction, seed)) == first
    assert np.array_equal(np.random.get_state()[1], state)


@given(LABELS, FRACTIONS, FRACTIONS, SEEDS)
def test_a_smaller_subset_is_part_of_a_larger_one(labels, one, other, seed):
    small, large = (set(numbers(subset(labels, f, seed))) for f in sorted((one, other)))
    assert small <= large


def test_another_seed_gives_other_images_and_the_choice_is_fixed():
    labels = [i % 3 for i in range(300)]
    assert numbers(subset(labels, seed=0)) != numbers(subset(labels, seed=1))
    # Results are compared over the years, so this must never change.
    assert numbers(subset([0, 1, 2] * 4, 0.5, seed=0)) == [1, 2, 6, 7, 9, 11]


@pytest.mark.parametrize('serialize', [False, True])
def test_labels_and_metainfo(serialize):
    labels = [2, 0, 1, 0, 1, 2, 0, 0]
    dataset = subset(labels, 0.5, serialize=serialize)
    assert dataset.metainfo['classes'] == ('a', 'b', 'c')
    assert len(dataset) == 4
    assert dataset.record()['num_images'] == 8
    chosen = numbers(dataset)
    assert dataset.record()['indices'] == chosen
    assert dataset.get_gt_labels().tolist() == [labels[i] for i in chosen]
    assert [dataset[i]['number'] for i in range(4)] == chosen


def test_an_image_that_a_pipeline_drops_is_replaced_from_the_subset():
    labels = [i % 3 for i in range(300)]
    dataset = subset(labels, 0.1)
    bad = numbers(dataset)[0]
    dataset.dataset.pipeline = lambda info: None if info['number'] == bad else info
    assert {dataset[0]['number'] for _ in range(200)} <= set(numbers(dataset)) - {bad}


def test_the_record_gives_the_same_subset_again(tmp_path):
    labels = [i % 3 for i in range(50)]
    first = subset(labels, 0.3, seed=7)
    path = tmp_path / 'few_shot_indices.json'
    path.write_text(json.dumps(first.record()))
    again = subset(labels, None, indices_file=str(path))
    assert numbers(again) == numbers(first)
    assert again.record() == dict(first.record(), fraction=None, seed=None)


@pytest.mark.parametrize(
    'content',
    [
        None,
        '[',
        '{"indices": [1, 1], "num_images": 10}',
        '{"indices": [10], "num_images": 10}',
        '{"indices": [1], "num_images": 11}',
    ],
)
def test_bad_indices_file(content, tmp_path):
    path = tmp_path / 'indices.json'
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=r'dataset\.indices_file=.*indices\.json'):
        subset([i % 3 for i in range(10)], None, indices_file=str(path))


@pytest.mark.parametrize(
    'key, value',
    [
        *(('fraction', value) for value in (0, 25, float('nan'), '0.25')),
        ('seed', -1),
        ('seed', 0.5),
    ],
)
def test_bad_arguments(key, value):
    with pytest.raises(ConfigError, match=f'dataset.{key}'):
        subset([0, 1, 2], **{key: value})


@pytest.mark.parametrize('kwargs', [{}, dict(fraction=0.5, indices_file='some.json')])
def test_fraction_or_file(kwargs):
    with pytest.raises(ConfigError, match='fraction.*indices_file'):
        FewShotSubset(dict(type='Numbered', labels=[0, 1, 2]), **kwargs)


def test_a_class_without_an_image():
    with pytest.raises(DataError, match="Numbered.*'b'"):
        subset([0, 2, 0, 2], 0.5)


def test_what_is_wrapped():
    wrapped = dict(type='RepeatDataset', dataset=dict(type='Numbered', labels=[0, 1, 2]), times=2)
    with pytest.raises(ConfigError, match='dataset.dataset.*RepeatDataset'):
        FewShotSubset(wrapped, fraction=0.5)


def test_data_root_reaches_the_wrapped_data_set(tmp_path):
    write_image_folder(tmp_path / 'images', per_class=8)
    dataset = dict(type='ImageFolder', data_root='nowhere', pipeline=[])
    chosen = FewShotSubset(dataset, 0.25, data_root=str(tmp_path / 'images'))
    assert len(chosen) == 4
    assert str(tmp_path) in chosen.get_data_info(0)['img_path']

"""Batches that methods ask for: what is in them, how often, and again after a resume."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.dataset import ConcatDataset, DefaultSampler, RepeatDataset

from hsakd.datasets.batch_samplers import training_labels
from hsakd.engine.training_data import ResumableBatchSampler
from hsakd.models.adapters import Memory
from hsakd.utils.class_index import ClassIndex
from hsakd.utils.errors import ConfigError

LABELS = np.repeat(np.arange(6), [2, 30, 40, 20, 5, 3])


class Labelled:
    def __init__(self, labels=LABELS):
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def get_gt_labels(self):
        return self.labels


def sampler_of(kind, batch_size=8, seed=3, **settings):
    order = DefaultSampler(Labelled(), shuffle=True, seed=seed)
    return ResumableBatchSampler(order, batch_size, dict(type=f'hsakd.{kind}', **settings))


@pytest.mark.parametrize(
    'kind, settings',
    [('RepeatedBatchSampler', dict(views=3)), ('PairBatchSampler', {}), ('ClassBatchSampler', {})],
)
@pytest.mark.parametrize('place', [(0, 5), (2, 1)])
def test_a_resumed_run_draws_the_same(kind, settings, place):
    whole, cut = sampler_of(kind, **settings), sampler_of(kind, **settings)
    whole.start_at(place[0], 0)
    cut.start_at(*place)
    assert list(cut) == list(whole)[place[1] :]
    epochs = []
    for epoch in (0, 1):
        whole.start_at(epoch, 0)
        epochs.append(list(whole))
    assert epochs[0] != epochs[1] and list(sampler_of(kind, seed=4, **settings)) != epochs[0]


def test_views_of_an_image_stand_in_a_row():
    for batch in sampler_of('RepeatedBatchSampler', views=3):
        images = np.reshape(batch, (-1, 3))
        assert (images == images[:, :1]).all()
    every = np.sort(np.concatenate(list(sampler_of('RepeatedBatchSampler', views=3))))
    assert (every == np.repeat(np.arange(100), 3)).all()


def test_partners_are_any_image_of_the_class():
    found, sampler = Counter(), sampler_of('PairBatchSampler')
    for epoch in range(400):
        sampler.start_at(epoch, 0)
        for batch in sampler:
            images, partners = np.split(np.array(batch), 2)
            assert (LABELS[images] == LABELS[partners]).all()
            found.update(zip(images.tolist(), partners.tolist(), strict=True))
    alike = [found[97, other] for other in (97, 98, 99)]  # of three images, itself among them
    assert sum(alike) == 400 and all(abs(number - 400 / 3) < 5 * 400**0.5 / 2 for number in alike)


def test_classes_and_images_of_a_batch_differ():
    sampler, found = sampler_of('ClassBatchSampler', images_per_class=3, batch_size=9), Counter()
    assert len(sampler) == 100 // 9
    for epoch in range(200):
        sampler.start_at(epoch, 0)
        for batch in sampler:
            classes = LABELS[batch].reshape(-1, 3)
            assert (classes == classes[:, :1]).all() and len(set(classes[:, 0])) == 3
            assert len(set(batch)) == 9
            found.update(set(classes[:, 0]))
    assert 0 not in found  # two images
    expected = 200 * 11 * 3 / 5
    assert all(abs(found[label] - expected) < 5 * expected**0.5 for label in range(1, 6))


@pytest.mark.parametrize('size, count', [(7, 2), (14, 2), (8, 50)])
def test_too_few_classes(size, count):
    with pytest.raises(ConfigError, match=f'train_dataloader.batch_size.*multiple of {count}'):
        sampler_of('ClassBatchSampler', size, images_per_class=count)


def test_labels_of_wrapped_data():
    data = Labelled()
    assert training_labels(data).tolist() == LABELS.tolist()
    both = ConcatDataset.__new__(ConcatDataset)
    both.datasets = [data, data]
    assert len(training_labels(both)) == 200
    repeated = RepeatDataset.__new__(RepeatDataset)
    repeated.dataset = data
    assert len(training_labels(repeated)) == 100
    with pytest.raises(ConfigError, match='one gt_label an image'):
        training_labels(Labelled(np.zeros((3, 2))))
    with pytest.raises(ConfigError, match='none or several of list'):
        training_labels([])


@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=30),
    number=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_images_of_the_class_and_of_others(labels, number, seed):
    index, random = ClassIndex(torch.tensor(labels)), np.random.default_rng(seed)
    labels, own = np.array(labels), np.arange(len(labels))
    assert (labels[index.same(own, random, number)] == labels[:, None]).all()
    if len(set(labels)) == 1:
        with pytest.raises(ConfigError, match='two or more classes'):
            index.others(own, number, random)
        return
    others = index.others(own, number, random)
    assert (labels[others] != labels[:, None]).all()
    for row, label in zip(others, labels, strict=True):
        available = int((labels != label).sum())
        assert len(set(row)) == number or number > available  # none comes twice but for want


def test_others_are_drawn_evenly():
    index, random = ClassIndex(torch.from_numpy(LABELS)), np.random.default_rng(0)
    drawn = [index.others(np.array([5]), 21, random)[0] for _ in range(2000)]
    count = np.bincount(np.concatenate(drawn), minlength=100)
    assert (count[LABELS == 1] == 0).all()
    assert np.abs(count[LABELS != 1] / 2000 - 0.3).max() < 0.06  # 21 of 70 images each time


def test_rows_of_a_memory_follow_their_images():
    memory = Memory(5, 3, momentum=0.25).double()
    before, v = memory.rows.clone(), torch.eye(3, dtype=torch.double)[:2]
    found = memory.similarity(v.requires_grad_(), torch.tensor([[4, 0], [1, 1]]))
    assert torch.equal(found[0], before[[4, 0], 0]) and torch.equal(found[1], before[[1, 1], 1])
    memory.update(torch.tensor([3, 1]), v)
    moved = 0.25 * before[[3, 1]] + 0.75 * torch.eye(3)[:2]
    assert torch.allclose(memory.rows[[3, 1]], moved / moved.norm(dim=1, keepdim=True))
    assert torch.equal(memory.rows[[0, 2, 4]], before[[0, 2, 4]])
    found.sum().backward()  # by the rows of before
    assert torch.equal(v.grad, torch.stack([before[[4, 0]].sum(0), 2 * before[1]]))

"""Data in memory: the same augmentation as mmpretrain's, exact from any place on."""

import itertools
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import ConcatDataset, DefaultSampler, RepeatDataset, pseudo_collate
from mmpretrain.datasets import BaseDataset
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.registry import TRANSFORMS
from mmpretrain.structures import DataSample
from scipy.stats import chisquare

from hsakd.datasets import FewShotSubset, ImageFolder
from hsakd.engine import tensor_loader
from hsakd.engine.runner import DistillationRunner
from hsakd.engine.tensor_loader import TensorLoader
from hsakd.engine.training_data import ResumableBatchSampler, SeededItems
from hsakd.models import DataPreprocessor
from hsakd.registry import MODELS
from hsakd.structures import BatchedLabels, class_labels, sample_indices
from hsakd.utils.errors import ConfigError, DataError
from tests.conftest import network_cfg, write_image_folder
from tests.datasets.conftest import _no_garbage_collection  # noqa: F401  for this module too
from tests.datasets.test_cifar import write_cifar100

CROP = dict(type='mmpretrain.RandomCrop', crop_size=32, padding=4)
FLIP = dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal')
PACK = dict(type='mmpretrain.PackInputs')


class Made(BaseDataset):
    """Random images; labels count up."""

    METAINFO = dict(classes=tuple('abcdefghij'))

    def __init__(self, number, pipeline, size=(32, 32), labels=None):
        self.number, self.size = number, size
        self.labels = labels or [i % 10 for i in range(number)]
        super().__init__(ann_file='', pipeline=pipeline)

    def load_data_list(self):
        images = np.random.default_rng(0).integers(
            0, 256, (self.number, *self.size, 3), dtype=np.uint8
        )
        return [dict(img=i, gt_label=label) for i, label in zip(images, self.labels, strict=True)]


def loader(dataset, batch_size=8, seed=0, shuffle=True, **kwargs):
    sampler = DefaultSampler(dataset, shuffle, seed)
    batches = ResumableBatchSampler(sampler, batch_size, **kwargs)
    return TensorLoader(dataset, batches, seed, 'cpu')


def variants(image, pipeline):
    """What mmpretrain's transforms make of an image, for all that they may choose."""
    steps = [TRANSFORMS.build(step) for step in pipeline]
    found = [dict(img=image)]
    for step in steps:
        if type(step).__name__ == 'RandomCrop':
            found = [crop for info in found for crop in crops(step, info)]
        elif type(step).__name__ == 'RandomFlip':
            flipped = []
            for info in found:
                for direction in ('horizontal', None):
                    with mock.patch.object(step, '_choose_direction', return_value=direction):
                        flipped.append(step(dict(info)))
            found = flipped
        else:
            found = [step(info) for info in found]
    return [info['inputs'].numpy().tobytes() for info in found]


def crops(step, info):
    """Every crop whose offsets NumPy may draw."""
    numbers = []

    def note(low, high):
        numbers.append(range(low, high))
        return low

    with mock.patch('numpy.random.randint', note):
        step(dict(info))
    for offsets in itertools.product(*numbers):
        with mock.patch('numpy.random.randint', side_effect=offsets):
            yield step(dict(info))


def test_every_choice_of_the_pipeline_is_as_likely():
    pipeline = [CROP, FLIP, PACK]
    one = Made(1, pipeline)
    known = variants(one.get_data_info(0)['img'], pipeline)
    assert len(set(known)) == 9 * 9 * 2
    batches = list(loader(RepeatDataset(one, 162 * 30), batch_size=100))
    found = [image.numpy().tobytes() for batch in batches for image in batch['inputs']]
    counts = [found.count(variant) for variant in known]
    assert sum(counts) == 162 * 30, 'others than those of the pipeline'
    assert min(counts) > 0
    assert chisquare(counts).pvalue > 0.01


sizes = st.integers(2, 5)  # mmpretrain's PackInputs refuses a flipped image of one column


@settings(max_examples=12, deadline=None)
@given(
    size=st.tuples(sizes, sizes),
    crop=st.tuples(sizes, sizes),
    padding=st.none()
    | st.integers(0, 2)
    | st.tuples(*[st.integers(0, 2)] * 2)
    | st.tuples(*[st.integers(0, 2)] * 4),
    flips=st.sampled_from(['before', 'after', 'both', 'none']),
    batch_size=st.integers(1, 9),
)
def test_any_crop_and_flip_makes_what_mmpretrain_does(size, crop, padding, flips, batch_size):
    """Also not square, padded on one side, and larger than the image."""
    pipeline = [
        *[FLIP] * (flips in ('before', 'both')),
        dict(CROP, crop_size=crop, padding=padding),
        *[FLIP] * (flips in ('after', 'both')),
        PACK,
    ]
    images = Made(3, pipeline, size)
    known = [set(variants(images.get_data_info(i)['img'], pipeline)) for i in range(3)]
    for batch in loader(RepeatDataset(images, 5), batch_size):
        for image, label in zip(batch['inputs'], batch['data_samples'].gt_label, strict=True):
            assert image.numpy().tobytes() in known[label]


def contents(batches):
    return [(batch['inputs'], batch['data_samples'].gt_label) for batch in batches]


def assert_same(some, others):
    for (images, labels), (other_images, other_labels) in zip(some, others, strict=True):
        assert torch.equal(images, other_images) and torch.equal(labels, other_labels)


def test_epochs_and_seeds_differ():
    dataset = Made(64, [CROP, FLIP, PACK])
    of_seeds = [loader(dataset, 64, seed, shuffle=False) for seed in (0, 0, 1)]
    a, b, c = (contents(of_seed)[0][0] for of_seed in of_seeds)
    of_seeds[0].batch_sampler.start_at(1, 0)
    (d, _), *_ = contents(of_seeds[0])
    assert torch.equal(a, b)
    for other in (c, d):  # one of 162 by chance
        assert (a == other).flatten(1).all(1).sum() < 5


@settings(max_examples=12, deadline=None)
@given(
    number=st.integers(3, 40),
    batch_size=st.integers(1, 12),
    drop_last=st.booleans(),
    endless=st.booleans(),
    chunk=st.sampled_from([1, 3 * 32 * 32 * 20, 2**20]),
    data=st.data(),
)
def test_goes_on_anywhere(number, batch_size, drop_last, endless, chunk, data):
    """With the batches that follow in a run without an interruption."""
    dataset = Made(number, [CROP, FLIP, PACK])
    kwargs = dict(batch_size=min(batch_size, number), drop_last=drop_last)
    whole = loader(dataset, **kwargs)
    batches = contents(whole)
    assert len(batches) == len(whole)
    if endless:
        whole.batch_sampler.start_at(1, 0)
        batches += contents(whole)
    skipped = data.draw(st.integers(0, len(batches) - 1))
    resumed = loader(dataset, **kwargs, endless=endless)
    resumed.batch_sampler.start_at(0, skipped)
    with mock.patch.object(tensor_loader, '_CHUNK_BYTES', chunk):
        rest = contents(itertools.islice(resumed, len(batches) - skipped))
    assert_same(batches[skipped:], rest)


@pytest.mark.parametrize('world_size', [2, 3])
def test_augmentation_does_not_depend_on_the_number_of_processes(world_size, monkeypatch):
    monkeypatch.setattr(tensor_loader, '_BLOCK', 7)  # so that batches cross its ends
    dataset = Made(60, [CROP, FLIP, PACK])
    together = contents(loader(dataset, 5 * world_size))
    of_ranks = []
    for rank in range(world_size):
        for module in ('hsakd.engine.tensor_loader', 'mmengine.dataset.sampler'):
            monkeypatch.setattr(f'{module}.get_dist_info', lambda rank=rank: (rank, world_size))
        of_ranks.append(contents(loader(dataset, 5)))
    shared = [  # images in turns
        tuple(torch.stack(parts, 1).flatten(0, 1) for parts in zip(*batches, strict=True))
        for batches in zip(*of_ranks, strict=True)
    ]
    assert_same(together, shared)


def from_workers(dataset, batch_size=8, seed=0, start=(0, 0)):
    """What torch's loader makes of the same places, through the preprocessor."""
    batches = ResumableBatchSampler(DefaultSampler(dataset, True, seed), batch_size)
    batches.start_at(*start)
    items = SeededItems(dataset, seed)
    for batch in batches:
        yield DataPreprocessor()(pseudo_collate(items(batch)))


def first_pixels(batches):
    """By position of an image, its pixels; each image comes once."""
    found = {}
    for batch in batches:
        indices = sample_indices(batch['data_samples'])
        assert indices.dtype == torch.int64 and len(indices) == len(batch['inputs'])
        assert indices.tolist() == [sample.sample_idx for sample in batch['data_samples']]
        for index, image in zip(indices.tolist(), batch['inputs'], strict=True):
            assert index not in found
            found[index] = image.float().flatten().tolist()
    return found


@pytest.mark.parametrize('wrap', ['plain', 'few-shot', 'repeated'])
def test_positions_of_images_are_those_in_the_data_set_from_both_loaders(wrap):
    dataset = Made(30, [PACK])
    if wrap == 'few-shot':
        dataset = FewShotSubset(dataset, fraction=0.5)
    count = len(dataset)
    expected = {i: dataset[i]['inputs'].float().flatten().tolist() for i in range(count)}
    if wrap == 'repeated':
        dataset = RepeatDataset(dataset, 2)
        for loaded in (loader(dataset, 1), from_workers(dataset, 1)):
            found = [sample_indices(batch['data_samples']).item() for batch in loaded]
            assert sorted(found) == sorted(2 * [*range(count)])
        return
    in_memory = loader(dataset)
    in_memory.batch_sampler.start_at(1, 0)
    assert first_pixels(in_memory) == first_pixels(from_workers(dataset)) == expected
    # After a resume in the middle of an epoch, the positions that are left.
    in_memory.batch_sampler.start_at(2, 1)
    rest = first_pixels(in_memory)
    assert len(rest) == count - 8 and rest.items() <= expected.items()
    assert rest == first_pixels(from_workers(dataset, start=(2, 1)))


def test_positions_in_data_sets_together():
    joined = ConcatDataset([Made(number, [PACK]) for number in (5, 3, 4)])
    batch = next(iter(ResumableBatchSampler(range(12), 12)))
    samples = [item['data_samples'] for item in SeededItems(joined, 0)(batch)]
    assert sample_indices(samples).tolist() == [*range(12)]


def test_positions_that_a_pipeline_leaves_out():
    samples = [Made(2, [dict(PACK, meta_keys=())])[0]['data_samples']]
    with pytest.raises(ConfigError, match='train_dataloader.dataset.pipeline.*sample_idx'):
        sample_indices(samples)


def test_files_are_read_once(tmp_path):
    resize = dict(type='mmpretrain.Resize', scale=(16, 16), backend='pillow')
    folder = write_image_folder(tmp_path, per_class=3)
    dataset = ImageFolder(str(folder), pipeline=[dict(type='LoadImage'), resize, PACK])
    expected = torch.stack([dataset[i]['inputs'] for i in range(6)])
    in_memory = loader(dataset, 6, shuffle=False)
    for path in folder.glob('*/*'):
        path.unlink()
    ((images, labels),) = contents(in_memory)
    assert torch.equal(images, expected) and labels.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    'step, named',
    [
        (dict(type='mmpretrain.RandomResizedCrop', scale=32), '.0 .*RandomResizedCrop'),
        (dict(FLIP, direction='vertical'), '.0 .*RandomFlip'),
        (dict(FLIP, prob=[0.1, 0.1], direction=['horizontal', 'vertical']), '.0 .*RandomFlip'),
        (dict(CROP, pad_val=128), '.0 .*RandomCrop'),
        (dict(CROP, crop_size=64, pad_if_needed=True), '.0 .*RandomCrop'),
        (PACK, '.0 '),
    ],
)
def test_other_steps_are_named(step, named):
    with pytest.raises(ConfigError, match=f'dataset.pipeline{named}'):
        loader(Made(4, [step, PACK]))


def test_pipelines_and_data_sets_that_cannot_be_used():
    resize = dict(type='mmpretrain.Resize', scale=(16, 16))
    with pytest.raises(ConfigError, match='dataset.pipeline.1 .*Resize'):
        loader(Made(4, [CROP, resize, PACK]))
    with pytest.raises(ConfigError, match='dataset.pipeline .*PackInputs'):
        loader(Made(4, [CROP]))
    with pytest.raises(ConfigError, match='dataset.type .*list'):
        loader([1, 2])


@pytest.mark.parametrize('label', [10, -1])
def test_label_beyond_the_classes(label):
    with pytest.raises(DataError, match=rf'image 2: .*0\.\.9.*\[{label}\]'):
        loader(Made(4, [PACK], labels=[0, 1, label, 3]))


def test_image_of_another_size_is_named(tmp_path):
    write_image_folder(tmp_path, classes='a')
    write_image_folder(tmp_path, classes='b', size=16)
    dataset = ImageFolder(str(tmp_path), pipeline=[dict(type='LoadImage'), PACK])
    with pytest.raises(DataError, match=r'b/0.png: .*3, 32, 32.*3, 16, 16'):
        loader(dataset)


def test_too_large_for_the_device(monkeypatch):
    monkeypatch.setattr(tensor_loader, '_free_memory', lambda device: 2**20)
    loader(Made(170, [PACK]))
    with pytest.raises(ConfigError, match='train_dataloader.in_memory: .* 171 '):
        loader(Made(171, [PACK]))


def test_only_for_training(tmp_path, in_process):
    with pytest.raises(ConfigError, match='in_memory'):
        DistillationRunner.build_dataloader(dict(in_memory=True))
    write_cifar100(tmp_path)
    config = 'configs/baseline/resnet20_1xb64-240e_cifar100.py'
    _, stderr = in_process(
        'tools/train.py', config, '--work-dir', tmp_path / 'work', '--cfg-options',
        f'train_dataloader.dataset.data_root={tmp_path}', 'max_bad_images=2',
    )  # fmt: skip
    assert 'max_bad_images: expected' in stderr
    assert 'Traceback' not in stderr


def test_batched_labels_are_like_data_samples():
    labels = BatchedLabels(torch.tensor([3, 0, 2]), torch.arange(3))
    samples = list(labels)
    assert len(labels) == 3 and labels[-1].gt_label.tolist() == [2]
    assert all(isinstance(sample, DataSample) for sample in samples)
    assert torch.equal(class_labels(labels), class_labels(samples))
    samples[1].set_pred_label(4)
    assert labels[1].pred_label.item() == 4, 'what is written has to stay'
    assert labels.to('cpu') is labels
    assert sample_indices(labels).tolist() == sample_indices(samples).tolist() == [0, 1, 2]
    assert labels.to('meta').sample_idx.is_meta
    network = MODELS.build(network_cfg())
    inputs = torch.randn(3, 3, 16, 16)
    loss = network(inputs, labels, 'loss')['loss_cls']
    assert loss == network(inputs, samples, 'loss')['loss_cls']


@pytest.mark.parametrize('dtype', [torch.uint8, torch.float32])
@pytest.mark.parametrize(
    'cfg',
    [
        dict(mean=[10.0, 20, 30], std=[3.0, 5, 7], to_rgb=True),
        dict(mean=[10.0, 20, 30], std=[3.0, 5, 7], pad_size_divisor=5),
        dict(),
        dict(num_classes=4, batch_augments=dict(augments=dict(type='mmpretrain.Mixup', alpha=1.0))),
    ],
)
def test_preprocessor_computes_what_mmpretrain_does(cfg, dtype):
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8).to(dtype)
    before, label = images.clone(), torch.tensor([3, 0, 2])
    found = []
    for kind, samples in (
        (ClsDataPreprocessor, list(BatchedLabels(label, torch.arange(3)))),
        (DataPreprocessor, BatchedLabels(label, torch.arange(3))),
    ):
        np.random.seed(0)
        torch.manual_seed(0)
        found.append(kind(**cfg)(dict(inputs=images, data_samples=samples), training=True))
    assert torch.equal(found[0]['inputs'], found[1]['inputs'])
    assert torch.equal(images, before), 'the images of the loader were changed'
    for one, other in zip(*(data['data_samples'] for data in found), strict=True):
        assert one.gt_label == other.gt_label
        assert torch.equal(one.get('gt_score', label), other.get('gt_score', label))

import pickle
import tarfile

import numpy as np
import pytest

from hsakd.datasets import CIFAR10, CIFAR100
from hsakd.utils.errors import ConfigError, DataError

PIPELINE = [dict(type='mmpretrain.PackInputs')]


def write_cifar10(root, per_batch=6):
    """The archive's layout: five batches of rows of 3072 bytes, channel after channel."""
    folder = root / 'cifar-10-batches-py'
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in [*(f'data_batch_{i}' for i in range(1, 6)), 'test_batch']:
        data = rng.integers(0, 256, (per_batch, 3072), dtype=np.uint8)
        content = {
            'labels': [i % 10 for i in range(per_batch)],
            'data': data,
        }
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return folder


def write_cifar100(root, number=7):
    folder = root / 'cifar-100-python'
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ('train', 'test'):
        content = {
            'fine_labels': [i * 13 % 100 for i in range(number)],
            'coarse_labels': [0] * number,
            'data': rng.integers(0, 256, (number, 3072), dtype=np.uint8),
        }
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return folder


def test_cifar10_images_and_labels(tmp_path):
    folder = write_cifar10(tmp_path)
    train = CIFAR10(data_root=str(tmp_path), split='train', pipeline=PIPELINE)
    test = CIFAR10(data_root=str(tmp_path), split='test', pipeline=PIPELINE, test_mode=True)
    assert (len(train), len(test)) == (30, 6)
    raw = pickle.loads((folder / 'data_batch_2').read_bytes())
    sample = train[6 + 3]
    assert sample['data_samples'].gt_label.item() == 3
    assert np.array_equal(sample['inputs'].numpy(), raw['data'][3].reshape(3, 32, 32))
    assert train.metainfo['classes'][0] == 'airplane'


def test_labels_are_places_in_the_classes_of_the_config(tmp_path):
    write_cifar10(tmp_path)
    own = CIFAR10(data_root=str(tmp_path), split='test')
    order = own.metainfo['classes'][::-1]
    dataset = CIFAR10(data_root=str(tmp_path), split='test', metainfo=dict(classes=order))
    assert dataset.get_gt_labels().tolist() == (9 - own.get_gt_labels()).tolist()


def test_cifar100_takes_the_fine_labels(tmp_path):
    write_cifar100(tmp_path)
    train = CIFAR100(data_root=str(tmp_path), split='train', pipeline=PIPELINE)
    assert [train.get_data_info(i)['gt_label'] for i in range(3)] == [0, 13, 26]
    assert len(train.metainfo['classes']) == 100


def test_archive_is_read_without_unpacking(tmp_path):
    folder = write_cifar100(tmp_path / 'unpacked')
    with tarfile.open(tmp_path / 'cifar-100-python.tar.gz', 'w:gz') as tar:
        tar.add(folder, arcname='cifar-100-python')
    packed = CIFAR100(data_root=str(tmp_path), split='test', pipeline=PIPELINE)
    unpacked = CIFAR100(data_root=str(tmp_path / 'unpacked'), split='test', pipeline=PIPELINE)
    for one, other in zip(packed, unpacked, strict=True):
        assert np.array_equal(one['inputs'], other['inputs'])


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r'data_root=.*cifar-100-python\.tar\.gz'):
        CIFAR100(data_root=str(tmp_path / 'nowhere'), split='train', pipeline=PIPELINE)


@pytest.mark.parametrize('keep', [0, 10_000])
def test_truncated_batch_is_named(tmp_path, keep):
    folder = write_cifar10(tmp_path)
    batch = folder / 'data_batch_4'
    batch.write_bytes(batch.read_bytes()[:keep])
    with pytest.raises(DataError, match='data_batch_4'):
        CIFAR10(data_root=str(tmp_path), split='train', pipeline=PIPELINE)


def test_truncated_archive_is_named(tmp_path):
    folder = write_cifar100(tmp_path / 'unpacked', number=50)
    archive = tmp_path / 'cifar-100-python.tar.gz'
    with tarfile.open(archive, 'w:gz') as tar:
        tar.add(folder, arcname='cifar-100-python')
    whole = archive.read_bytes()
    for broken in (whole[:50_000], b'no archive'):
        archive.write_bytes(broken)
        with pytest.raises(DataError, match=r'cifar-100-python\.tar\.gz'):
            CIFAR100(data_root=str(tmp_path), split='train', pipeline=PIPELINE)


def test_wrong_content_is_named(tmp_path):
    folder = write_cifar100(tmp_path)
    (folder / 'train').write_bytes(pickle.dumps({'data': np.zeros((2, 5), np.uint8)}))
    with pytest.raises(DataError, match=r"cifar-100-python/train.*'data'"):
        CIFAR100(data_root=str(tmp_path), split='train', pipeline=PIPELINE)
    content = dict(data=np.zeros((2, 3072), np.uint8), fine_labels=[3, 100])
    (folder / 'train').write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=r'cifar-100-python/train, image 1: .*0\.\.99.*100'):
        CIFAR100(data_root=str(tmp_path), split='train', pipeline=PIPELINE)
    with pytest.raises(ConfigError, match="dataset.split: .*'val'"):
        CIFAR100(data_root=str(tmp_path), split='val', pipeline=PIPELINE)


def test_nothing_in_a_batch_is_executed(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (tmp_path.joinpath('executed').touch, ())

    folder = write_cifar100(tmp_path)
    (folder / 'train').write_bytes(pickle.dumps({'data': Malicious()}))
    with pytest.raises(DataError, match='cifar-100-python/train.*getattr'):
        CIFAR100(data_root=str(tmp_path), split='train', pipeline=PIPELINE)
    assert not (tmp_path / 'executed').exists()

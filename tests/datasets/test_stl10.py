import tarfile

import numpy as np
import pytest

from hsakd.datasets import STL10
from hsakd.utils.errors import DataError

PIPELINE = [dict(type='mmpretrain.PackInputs')]
CLASSES = 'airplane bird car cat deer dog horse monkey ship truck'.split()


def write_stl10(root, train=20, test=10):
    """The archive's layout: planes of 96 x 96 bytes column after column, labels from 1."""
    folder = root / 'stl10_binary'
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, number in (('train', train), ('test', test)):
        labels = np.arange(number) % 10 + 1
        images = rng.integers(0, 100, (number, 96, 96, 3), dtype=np.uint8)
        images += (labels * 10)[:, None, None, None].astype(np.uint8)
        with open(folder / f'{split}_X.bin', 'wb') as file:
            for image in images:
                for channel in range(3):
                    file.write(image[:, :, channel].tobytes(order='F'))
        (folder / f'{split}_y.bin').write_bytes(labels.astype(np.uint8).tobytes())
    (folder / 'class_names.txt').write_text('\n'.join(CLASSES) + '\n')
    return folder


def stl10(root, split='train', **kwargs):
    return STL10(data_root=str(root), split=split, pipeline=PIPELINE, **kwargs)


def test_labels_and_classes(tmp_path):
    write_stl10(tmp_path)
    dataset = stl10(tmp_path)
    assert (len(dataset), len(stl10(tmp_path, 'test'))) == (20, 10)
    assert dataset.metainfo['classes'] == tuple(CLASSES)
    assert dataset.get_gt_labels().tolist() == [*range(10)] * 2
    sample = dataset[13]
    assert sample['inputs'].shape == (3, 96, 96)
    assert sample['data_samples'].gt_label.item() == 3


def test_labels_are_places_in_the_classes_of_the_config(tmp_path):
    write_stl10(tmp_path)
    dataset = stl10(tmp_path, metainfo=dict(classes=CLASSES[::-1]))
    assert dataset.get_gt_labels().tolist() == [*range(9, -1, -1)] * 2


def test_columns_come_before_rows(tmp_path):
    folder = write_stl10(tmp_path)
    # Byte by byte: red falls to the right, green down, and blue marks one pixel.
    planes = bytearray(3 * 96 * 96)
    for column in range(96):
        for row in range(96):
            planes[96 * column + row] = 200 - column
            planes[96 * 96 + 96 * column + row] = 200 - row
    planes[2 * 96 * 96 + 96 * 5 + 80] = 255
    (folder / 'train_X.bin').write_bytes(bytes(planes))
    (folder / 'train_y.bin').write_bytes(bytes([10]))
    red, green, blue = stl10(tmp_path)[0]['inputs'].numpy()
    assert (red == 200 - np.arange(96)[None, :]).all()
    assert (green == 200 - np.arange(96)[:, None]).all()
    assert np.argwhere(blue).tolist() == [[80, 5]]


def test_archive_is_read_without_unpacking(tmp_path):
    folder = write_stl10(tmp_path / 'unpacked')
    with tarfile.open(tmp_path / 'stl10_binary.tar.gz', 'w:gz') as tar:
        tar.add(folder, arcname='stl10_binary')
    packed, unpacked = stl10(tmp_path), stl10(tmp_path / 'unpacked')
    assert packed.metainfo == unpacked.metainfo
    for one, other in zip(packed, unpacked, strict=True):
        assert np.array_equal(one['inputs'], other['inputs'])


def test_archive_without_a_file(tmp_path):
    folder = write_stl10(tmp_path / 'unpacked')
    (folder / 'train_y.bin').unlink()
    with tarfile.open(tmp_path / 'stl10_binary.tar.gz', 'w:gz') as tar:
        tar.add(folder, arcname='stl10_binary')
    with pytest.raises(DataError, match=r'stl10_binary\.tar\.gz:stl10_binary/train_y\.bin'):
        stl10(tmp_path)


def test_missing_file_is_named(tmp_path):
    (write_stl10(tmp_path) / 'train_y.bin').unlink()
    with pytest.raises(DataError, match='stl10_binary/train_y.bin'):
        stl10(tmp_path)


@pytest.mark.parametrize(
    'name, spoil, words',
    [
        ('train_X.bin', lambda b: b[:-1], 'train_X.bin.*552959'),
        ('train_X.bin', lambda b: b[: 19 * 27648], 'train_y.bin.*19.*20'),
        ('train_y.bin', lambda b: b[:5] + b'\0' + b[6:], r'train_y.bin, image 5: .*1\.\.10.* 0'),
        ('class_names.txt', lambda b: b[: b.index(b'truck')], r'image 9: .*1\.\.9.*10'),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, name, spoil, words):
    path = write_stl10(tmp_path) / name
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=words):
        stl10(tmp_path)

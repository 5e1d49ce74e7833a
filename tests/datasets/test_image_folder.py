import pytest

from hsakd.datasets import ImageFolder
from hsakd.utils.errors import DataError
from tests.conftest import write_image_folder

PIPELINE = [dict(type='LoadImage'), dict(type='mmpretrain.PackInputs')]


def folder(root, **kwargs):
    return ImageFolder(data_root=str(root), pipeline=PIPELINE, **kwargs)


def test_classes_are_the_subfolders(tmp_path):
    dataset = folder(write_image_folder(tmp_path))
    assert len(dataset) == 8 and dataset.metainfo['classes'] == ('cat', 'dog')
    sample = dataset[5]
    assert sample['inputs'].shape == (3, 32, 32)
    assert sample['data_samples'].gt_label.item() == 1
    # 'cat' is reddish, and read as BGR
    assert dataset[0]['inputs'][2].float().mean() > dataset[0]['inputs'][0].float().mean() + 50


@pytest.mark.parametrize('make', [lambda p: None, lambda p: p.mkdir()])
def test_missing_or_empty_folder(tmp_path, make):
    make(tmp_path / 'data')
    with pytest.raises(DataError, match='data_root=.*data.*accepted is a folder'):
        folder(tmp_path / 'data')


def test_folder_without_images(tmp_path):
    (tmp_path / 'cat').mkdir()
    (tmp_path / 'cat' / 'notes.txt').touch()
    with pytest.raises(DataError, match='no image'):
        folder(tmp_path)


@pytest.mark.parametrize('spoil', [lambda b: b[: len(b) // 2], lambda b: b'', lambda b: b'GIF'])
def test_bad_image_is_named_or_skipped_and_counted(tmp_path, spoil):
    write_image_folder(tmp_path)
    bad = tmp_path / 'dog' / '2.png'
    bad.write_bytes(spoil(bad.read_bytes()))
    dataset = folder(tmp_path)
    assert len(dataset) == 8
    with pytest.raises(DataError, match=r'dog/2\.png: cannot be decoded'):
        dataset[6]
    skipping = folder(tmp_path, skip_bad_images=True)
    assert len(skipping) == 7
    assert not any(skipping.get_data_info(i)['img_path'] == str(bad) for i in range(7))


def test_nothing_left_after_skipping(tmp_path):
    (tmp_path / 'cat').mkdir()
    (tmp_path / 'cat' / '1.png').write_bytes(b'no image')
    with pytest.raises(DataError, match='none of 1 images'):
        folder(tmp_path, skip_bad_images=True)

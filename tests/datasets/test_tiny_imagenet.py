import shutil

import numpy as np
import pytest
from PIL import Image

from hsakd.datasets import TinyImageNet
from hsakd.utils.errors import ConfigError, DataError

PIPELINE = [dict(type='LoadImage'), dict(type='mmpretrain.PackInputs')]
WNIDS = ('n02124075', 'n04067472', 'n01443537')  # in no order, as in the real file


def write_tiny_imagenet(root, wnids=WNIDS, per_class=3):
    """The archive's layout, with annotations; the first image of each class is gray."""
    rng = np.random.default_rng(0)

    def save(path, label, gray):
        image = rng.integers(0, 60, (64, 64, 3), dtype=np.uint8)
        image[..., label % 3] += 150
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).convert('L' if gray else 'RGB').save(path, quality=95)

    lines = []
    for label, wnid in enumerate(wnids):
        for i in range(per_class):
            save(root / 'train' / wnid / 'images' / f'{wnid}_{i}.JPEG', label, gray=i == 0)
            number = i * len(wnids) + label
            save(root / 'val' / 'images' / f'val_{number}.JPEG', label, gray=i == 0)
            lines.append(f'val_{number}.JPEG\t{wnid}\t0\t32\t44\t62\n')
        boxes = (f'{wnid}_{i}.JPEG\t0\t10\t63\t58\n' for i in range(per_class))
        (root / 'train' / wnid / f'{wnid}_boxes.txt').write_text(''.join(boxes))
    (root / 'val' / 'val_annotations.txt').write_text(''.join(lines))
    (root / 'wnids.txt').write_text('\n'.join(wnids))
    (root / 'words.txt').write_text(''.join(f'{wnid}\tsome, words\n' for wnid in wnids))
    return root


def tiny(root, split='train', **kwargs):
    return TinyImageNet(data_root=str(root), split=split, pipeline=PIPELINE, **kwargs)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_images_and_labels(tmp_path, split):
    dataset = tiny(write_tiny_imagenet(tmp_path), split)
    assert dataset.metainfo['classes'] == WNIDS
    assert len(dataset) == 9
    colors = set()
    for i in range(9):
        label = dataset.get_data_info(i)['gt_label']
        sample = dataset[i]
        assert sample['inputs'].shape == (3, 64, 64)
        assert sample['data_samples'].gt_label.item() == label
        blue, green, red = (channel.float().mean() for channel in sample['inputs'])
        if max(red, green, blue) - min(red, green, blue) > 50:
            assert int(np.argmax([red, green, blue])) == label  # the color of the class
            colors.add(label)
    assert colors == {0, 1, 2}


def test_splits_have_each_class_as_often(tmp_path):
    write_tiny_imagenet(tmp_path)
    for split in ('train', 'val'):
        assert sorted(tiny(tmp_path, split).get_gt_labels().tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


ANNOTATIONS = 'val/val_annotations.txt'


@pytest.mark.parametrize(
    'split, spoil, words',
    [
        ('train', lambda p: (p / 'wnids.txt').unlink(), 'wnids.txt'),
        ('train', lambda p: (p / 'wnids.txt').write_text(''), 'wnids.txt'),
        ('train', lambda p: (p / 'wnids.txt').write_text('n1\nn1'), 'wnids.txt: .*n1'),
        ('train', lambda p: shutil.rmtree(p / 'train' / WNIDS[1]), f'train/{WNIDS[1]}/images'),
        ('train', lambda p: (p / 'train' / 'n99').mkdir(), 'train: .*n99'),
        ('train', lambda p: replace(p / 'wnids.txt', WNIDS[2], 'n98'), f'train: .*{WNIDS[2]}'),
        ('val', lambda p: (p / ANNOTATIONS).unlink(), ANNOTATIONS),
        ('val', lambda p: replace(p / ANNOTATIONS, WNIDS[1], 'n97'), f'{ANNOTATIONS}, line 4.*n97'),
        ('val', lambda p: replace(p / ANNOTATIONS, '\t', ','), f'{ANNOTATIONS}, line 1'),
        ('val', lambda p: (p / 'val/images/val_3.JPEG').unlink(), 'line 2: .*val_3.JPEG'),
        (
            'val',
            lambda p: replace(p / ANNOTATIONS, 'val_3.JPEG', 'val_0.JPEG'),
            'line 2: .*val_0.JPEG',
        ),
        (
            'val',
            lambda p: replace(p / ANNOTATIONS, f'val_8.JPEG\t{WNIDS[2]}\t0\t32\t44\t62\n', ''),
            f'{ANNOTATIONS}: .*val_8.JPEG',
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, split, spoil, words):
    spoil(write_tiny_imagenet(tmp_path))
    with pytest.raises(DataError, match=words):
        tiny(tmp_path, split)


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r'nowhere/wnids\.txt.*data_root'):
        tiny(tmp_path / 'nowhere')


def test_unknown_split(tmp_path):
    write_tiny_imagenet(tmp_path)
    with pytest.raises(ConfigError, match="dataset.split: .*'test'"):
        tiny(tmp_path, 'test')


def test_images_that_cannot_be_decoded_are_left_out_where_that_is_asked_for(tmp_path):
    root = write_tiny_imagenet(tmp_path)
    (root / 'val/images/val_4.JPEG').write_bytes(b'no image')
    assert len(tiny(root, 'val', skip_bad_images=True)) == 8
    with pytest.raises(DataError, match='val_4.JPEG'):
        [*map(tiny(root, 'val').__getitem__, range(9))]

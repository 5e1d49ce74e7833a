import shutil

import numpy as np
import pytest
from PIL import Image

from hsakd.datasets import TinyImageNet
from hsakd.utils.errors import DataError

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
    (root / 'val' / 'val_annotations.txt').write_text(''.join(lines))
    (root / 'wnids.txt').write_text('\n'.join(wnids))
    return root


def tiny(root, split='train', **kwargs):
    return TinyImageNet(data_root=str(root), split=split, pipeline=PIPELINE, **kwargs)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_images_and_labels(tmp_path, split):
    dataset = tiny(write_tiny_imagenet(tmp_path), split)
    assert dataset.metainfo['classes'] == WNIDS
    assert sorted(dataset.get_gt_labels().tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
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


@pytest.mark.parametrize('split', ['train', 'val'])
def test_hidden_files_are_none_and_classes_may_have_another_order(tmp_path, split):
    write_tiny_imagenet(tmp_path)
    expected = tiny(tmp_path, split)
    images = 'val/images' if split == 'val' else f'train/{WNIDS[0]}/images'
    (tmp_path / images / '._x.JPEG').touch()
    (tmp_path / 'train/.ipynb_checkpoints').mkdir()
    dataset = tiny(tmp_path, split, metainfo=dict(classes=WNIDS[::-1]))
    assert dataset.get_gt_labels().tolist() == (2 - expected.get_gt_labels()).tolist()
    with pytest.raises(DataError, match=f'classes: .*unknown ones cow; without {WNIDS[2]}'):
        tiny(tmp_path, split, metainfo=dict(classes=(*WNIDS[:2], 'cow')))
    renamed = tiny(tmp_path, split, metainfo=dict(classes=('ant', 'cat', 'dog')))
    assert renamed.get_gt_labels().tolist() == expected.get_gt_labels().tolist()


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


ANNOTATIONS = 'val/val_annotations.txt'


@pytest.mark.parametrize(
    'split, spoil, words',
    [
        ('train', lambda p: (p / 'wnids.txt').unlink(), 'wnids.txt'),
        ('train', lambda p: (p / 'wnids.txt').write_text('n1\nn1'), 'wnids.txt: .*n1'),
        ('train', lambda p: shutil.rmtree(p / 'train' / WNIDS[1]), f'train/{WNIDS[1]}/images'),
        ('train', lambda p: (p / 'train' / 'n99').mkdir(), 'train: .*n99'),
        ('val', lambda p: replace(p / ANNOTATIONS, WNIDS[1], 'n97'), f'{ANNOTATIONS}, line 4.*n97'),
        ('val', lambda p: replace(p / ANNOTATIONS, '\t', ','), f'{ANNOTATIONS}, line 1'),
        ('val', lambda p: (p / 'val/images/val_3.JPEG').unlink(), 'line 2: .*val_3.JPEG'),
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

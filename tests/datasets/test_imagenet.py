import shutil

import numpy as np
import pytest
from mmengine.config import Config
from mmpretrain.datasets.categories import IMAGENET_CATEGORIES
from PIL import Image
from torchvision import transforms

from hsakd.datasets import ImageNet
from hsakd.registry import DATASETS
from hsakd.utils.errors import DataError
from tests.conftest import ROOT
from tests.imagenet_files import CLASSES, write_imagenet

PIPELINE = [dict(type='LoadImage'), dict(type='mmpretrain.PackInputs')]


def imagenet(root, split='train', **kwargs):
    return ImageNet(data_root=str(root), split=split, pipeline=PIPELINE, **kwargs)


@pytest.mark.parametrize('annotated', [False, True])
@pytest.mark.parametrize('split', ['train', 'val'])
def test_both_layouts(tmp_path, split, annotated):
    dataset = imagenet(write_imagenet(tmp_path, annotated), split)
    assert dataset.metainfo['classes'] == CLASSES
    assert dataset.get_gt_labels().tolist() == 6 * [0] + 6 * [1] + 6 * [2]
    for index in range(6, 12):  # each mode and size
        sample = dataset[index]
        width, height = Image.open(dataset.get_data_info(index)['img_path']).size
        assert sample['inputs'].shape == (3, height, width)
        assert sample['data_samples'].gt_label.item() == 1
    blue, green, red = sample['inputs'].float().mean(dim=(1, 2))
    assert green > max(blue, red) + 50  # the second class


def test_each_split_may_have_its_own_layout(tmp_path):
    write_imagenet(tmp_path, annotated=True)
    (tmp_path / 'meta' / 'train.txt').unlink()
    val = tmp_path / 'meta' / 'val.txt'
    val.write_text(''.join(val.read_text().splitlines(keepends=True)[:6]))  # the first class alone
    for split, images in (('train', 18), ('val', 6)):
        dataset = imagenet(tmp_path, split)
        assert len(dataset) == images and dataset.metainfo['classes'] == CLASSES
    shutil.rmtree(tmp_path / 'train')
    assert imagenet(tmp_path, 'val').metainfo['classes'] == ('0',)


def test_all_images_in_one_folder(tmp_path):
    write_imagenet(tmp_path, annotated=True)
    (tmp_path / 'val').rename(tmp_path / 'all')
    shutil.rmtree(tmp_path / 'train')
    for split in ('train', 'val'):
        shutil.copytree(tmp_path / 'all', tmp_path / split)
    shutil.copy(tmp_path / 'meta' / 'val.txt', tmp_path / 'meta' / 'train.txt')
    for split in ('train', 'val'):
        assert imagenet(tmp_path, split).metainfo['classes'] == ('0', '1', '2')
    assert imagenet(tmp_path, classes=['a', 'b', 'c']).metainfo['classes'] == ('a', 'b', 'c')
    with pytest.raises(DataError, match='dataset.classes: .* 3 .* 2'):
        imagenet(tmp_path, classes=['a', 'b'])


@pytest.mark.parametrize('kind', ['folders', 'numbers', 'names'])
@pytest.mark.parametrize('split', ['train', 'val'])
def test_labels_are_places_in_the_classes_of_the_config(split, kind, tmp_path):
    write_imagenet(tmp_path, annotated=kind != 'folders')
    if kind == 'names':
        rewrite(tmp_path, lambda name, label: f'{name} {CLASSES[label]}')
    dataset = imagenet(tmp_path, split, classes=CLASSES[::-1])
    assert dataset.metainfo['classes'] == CLASSES[::-1]
    assert dataset.get_gt_labels().tolist() == 6 * [2] + 6 * [1] + 6 * [0]


@pytest.mark.parametrize(
    'classes, words',
    [
        ((CLASSES[0], 'cow', CLASSES[2]), r"no folder for \['cow'\] and folders \['n01443537'\]"),
        (CLASSES[:2], r"got folders \['n01484850'\]"),
    ],
)
def test_names_that_are_not_those_of_the_folders(classes, words, tmp_path):
    with pytest.raises(DataError, match=words):
        imagenet(write_imagenet(tmp_path), classes=classes)


def rewrite(root, line, header=''):
    for path in (root / 'meta').iterdir():
        rows = [row.rsplit(maxsplit=1) for row in path.read_text().splitlines()]
        path.write_text(header + '\n'.join(line(name, int(label)) for name, label in rows))


@pytest.mark.parametrize(
    'line, header',
    [
        (lambda name, label: f'{name} {label + 1}', ''),
        (lambda name, label: f'{name} {CLASSES[label]}', ''),
        (lambda name, label: f'{name},{label}', 'image,label\n'),
        (lambda name, label: f'{name}\t{CLASSES[label]}', 'image\tlabel\n'),
    ],
)
def test_lists_of_other_kinds(line, header, tmp_path):
    """Labels from 1, by name, and a CSV; a class may be missing in validation."""
    write_imagenet(tmp_path, annotated=True)
    rewrite(tmp_path, line, header)
    val = tmp_path / 'meta/val.txt'
    val.write_text('\n'.join(val.read_text().splitlines()[:-6]))
    for split, last in (('train', 6), ('val', 0)):
        dataset = imagenet(tmp_path, split)
        assert dataset.metainfo['classes'] == CLASSES
        assert dataset.get_gt_labels().tolist() == 6 * [0] + 6 * [1] + last * [2]


def test_a_thousand_classes_have_their_names(tmp_path):
    image = tmp_path / 'image.JPEG'
    Image.new('RGB', (8, 8)).save(image)
    for i in range(1000):
        folder = tmp_path / 'train' / f'n{i:08d}'
        folder.mkdir(parents=True)
        shutil.copy(image, folder / 'x.JPEG')
    assert imagenet(tmp_path).metainfo['classes'] == tuple(IMAGENET_CATEGORIES)


def test_pixels_of_the_test_pipeline_are_torchvisions(tmp_path):
    write_imagenet(tmp_path)
    cfg = Config.fromfile(ROOT / 'configs/_base_/datasets/imagenet.py').val_dataloader.dataset
    dataset = DATASETS.build(dict(cfg, data_root=str(tmp_path)))
    theirs = transforms.Compose(
        [transforms.Resize(256), transforms.CenterCrop(224), transforms.PILToTensor()]
    )
    for index in range(6):
        image = Image.open(dataset.get_data_info(index)['img_path']).convert('RGB')
        ours = dataset[index]['inputs'].flip(0)  # BGR
        np.testing.assert_array_equal(ours.numpy(), theirs(image).numpy())


def annotation(line):
    def spoil(root):
        with (root / 'meta' / 'train.txt').open('a') as file:
            file.write(line)

    return spoil


def remove(*parts):
    def spoil(root):
        path = root.joinpath(*parts)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


@pytest.mark.parametrize(
    'annotated, spoil, words',
    [
        (True, annotation('n01440764/n01440764_0.JPEG\n'), 'train.txt, line 19: .*_0.JPEG'),
        (True, annotation('n01440764/n01440764_0.JPEG 1000\n'), r'line 19: .*0\.\.999'),
        (True, annotation('n01440764/n01440764_0.JPEG cow\n'), "train.txt, line 19: .*cow'"),
        (True, annotation('train/x.JPEG 1\n'), r'train.txt: .* 1 .*/train/train/x.JPEG'),
        (True, remove('train', CLASSES[1]), 'train.txt: .* 6 '),
        (True, lambda root: (root / 'meta/train.txt').write_bytes(b'\xff\xfe'), 'train.txt'),
        (False, remove('train'), 'dataset.data_root='),
        (
            False,
            lambda root: [p.rename(p.with_suffix('.x')) for p in root.rglob('*.JPEG')],
            r'dataset.data_root=.*meta/train.txt.*\.jpeg',
        ),
    ],
)
def test_bad_data_is_named(tmp_path, annotated, spoil, words):
    write_imagenet(tmp_path, annotated)
    spoil(tmp_path)
    with pytest.raises(DataError, match=words):
        imagenet(tmp_path)


def test_label_that_the_training_split_lacks(tmp_path):
    write_imagenet(tmp_path, annotated=True)
    with (tmp_path / 'meta' / 'val.txt').open('a') as file:
        file.write('n01440764_0.JPEG 3\n')
    with pytest.raises(DataError, match=r'val.txt, line 19: .*0\.\.2.* 3'):
        imagenet(tmp_path, 'val')
    (tmp_path / 'meta' / 'train.txt').unlink()
    with pytest.raises(DataError, match=r'val.txt, line 19: .*0\.\.2.* 3'):
        imagenet(tmp_path, 'val')


@pytest.mark.parametrize('annotated', [False, True])
def test_the_held_out_split_may_be_called_test(tmp_path, annotated):
    """With its labels, which mmpretrain's data set would leave out."""
    root = write_imagenet(tmp_path, annotated)
    (root / 'val').rename(root / 'test')
    if annotated:
        (root / 'meta/val.txt').rename(root / 'meta/test.txt')
    for split in ('val', 'test'):
        dataset = imagenet(root, split, test_mode=True)
        assert dataset.metainfo['classes'] == CLASSES
        assert dataset.get_gt_labels().tolist() == 6 * [0] + 6 * [1] + 6 * [2]
    (root / 'test').rename(root / 'other')
    with pytest.raises(DataError, match='val/ or test/, whichever is there'):
        imagenet(root, 'val')

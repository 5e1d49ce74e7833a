"""Folders of images as users have them, by tools/train.py and tools/test.py."""

import shutil

import pytest
from PIL import Image

from tests.conftest import ROOT, write_image_folder

CONFIG = """
_base_ = ['ROOT/configs/baseline/resnet20_1xb64-240e_images32.py']
model = dict(backbone=dict(depth=8), head=dict(num_classes=3))
train_cfg = dict(max_epochs=1)
train_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(data_root='DATA/train'))
val_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(data_root='DATA/test'))
test_dataloader = val_dataloader
"""
NO_RESIZE = """
PIPELINE = [dict(type='LoadImage'), dict(type='mmpretrain.PackInputs')]
LOADER['dataset']['pipeline'] = PIPELINE
"""
REPEATED = """
LOADER['dataset'] = dict(
    _delete_=True,
    type='RepeatDataset',
    times=1,
    dataset=dict(LOADER['dataset'], type='ImageFolder', pipeline=PIPELINE),
)
"""


@pytest.fixture
def data(tmp_path):
    for split in ('train', 'test'):
        write_image_folder(tmp_path / 'data' / split, ('ant', 'cat', 'dog'), per_class=4)
    return tmp_path / 'data'


@pytest.fixture
def train(data, in_process):
    def run(*options, extra=''):
        config = data / 'config.py'
        config.write_text(CONFIG.replace('ROOT', str(ROOT)).replace('DATA', str(data)) + extra)
        options = ('--cfg-options', *options) if options else ()
        status, error = in_process('tools/train.py', config, '--work-dir', data / 'w', *options)
        assert 'Traceback' not in error
        return status, error

    return run


@pytest.mark.parametrize(
    'loader, options',
    [
        ('train_dataloader', ()),
        ('train_dataloader', ('train_dataloader.num_workers=2',)),
        ('train_dataloader', ('train_dataloader.in_memory=True',)),
        ('train_dataloader', ('train_dataloader.collate_fn.type=default_collate',)),
        ('val_dataloader', ()),
        ('val_dataloader', ('val_dataloader.num_workers=1',)),
    ],
)
def test_images_of_several_sizes(loader, options, train, data):
    path = data / ('train' if loader[0] == 't' else 'test') / 'cat/2.png'
    Image.new('RGB', (40, 24)).save(path)
    status, error = train(*options, extra=NO_RESIZE.replace('LOADER', loader))
    assert status == 1 and error.count('error: ') == 1
    assert f'error: {path}: expected an image of shape (3, 32, 32), as {path.parents[1]}' in error
    assert 'got (3, 24, 40) (channels, height, width)' in error and 'Resize' in error


@pytest.mark.parametrize('repeats', [False, True])
@pytest.mark.parametrize('loader', ['train_dataloader', 'val_dataloader'])
def test_a_label_beyond_the_head(loader, repeats, train, data):
    """Of a list of numbers alone, without names of classes; named by its line."""
    names = enumerate(('ant', 'cat', 'dog'))
    lines = [f'{name}/{i}.png {label}' for label, name in names for i in range(4)]
    lines[9] = 'dog/1.png 3'
    (data / 'list.txt').write_text('\n'.join(lines))
    extra = f"{loader}['dataset']['ann_file'] = '{data}/list.txt'\n"
    if repeats:
        extra += "PIPELINE = [dict(type='LoadImage'), dict(type='mmpretrain.PackInputs')]"
        extra += REPEATED.replace('LOADER', loader)
    status, error = train(extra=extra)
    assert status == 1 and f'error: {data}/list.txt, line 10: expected a label in 0..2' in error


@pytest.mark.parametrize('loader', ['train_dataloader', 'val_dataloader'])
def test_images_of_one_and_three_channels(loader, train, data):
    Image.new('L', (32, 32)).save(data / ('train' if loader[0] == 't' else 'test') / 'cat/2.png')
    pipeline = NO_RESIZE.replace("'LoadImage'", "'LoadImage', color_type='unchanged'")
    status, error = train(extra=pipeline.replace('LOADER', loader))
    assert status == 1 and "color_type='color'" in error and 'Resize' not in error


def test_a_class_without_a_folder_in_validation(train, data):
    shutil.rmtree(data / 'test/cat')
    status, error = train()
    assert status == 1 and "got none for ['cat']" in error and 'num_classes' not in error
    (data / 'test/cat').mkdir()
    assert train()[0] == 0


def test_a_class_that_training_lacks(train, data):
    shutil.copytree(data / 'test/cat', data / 'test/cow')
    status, error = train()
    assert status == 1 and "got also ['cow']" in error and 'num_classes' not in error


def test_classes_in_an_order_of_ones_own(train, data):
    """The same in all splits, or an error."""
    order = "metainfo.classes=['dog','ant','cat']"
    status, error = train(f'train_dataloader.dataset.{order}')
    assert status == 1 and 'val_dataloader.dataset: expected the classes of train_dat' in error
    splits = [f'{split}_dataloader.dataset.{order}' for split in ('train', 'val')]
    assert train(*splits)[0] == 0

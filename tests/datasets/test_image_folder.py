import numpy as np
import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger
from PIL import Image

from hsakd.datasets import ImageFolder, LoadImage
from hsakd.registry import TRANSFORMS
from hsakd.utils.errors import DataError
from tests.conftest import ROOT, write_image_folder

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


@pytest.mark.parametrize(
    'make',
    [
        lambda p: None,
        lambda p: (p.mkdir(), (p / 'loose.png').touch()),
        lambda p: (p / 'cat').mkdir(parents=True) or (p / 'cat' / 'notes.txt').touch(),
    ],
    ids=['nothing', 'no subfolder', 'no image'],
)
def test_missing_or_empty_folder(tmp_path, make):
    make(tmp_path / 'data')
    with pytest.raises(DataError, match="dataset.data_root='.*data'"):
        folder(tmp_path / 'data')


def test_takes_the_formats_of_predict_and_counts_other_files(tmp_path, caplog):
    write_image_folder(tmp_path)
    for name in ('a.webp', 'b.tiff', 'C.TIF', 'd.bmp'):
        Image.new('RGB', (8, 8)).save(tmp_path / 'cat' / name)
    (tmp_path / 'cat' / 'notes.txt').touch()
    Image.new('RGB', (8, 8)).save(tmp_path / 'loose.png')
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        assert len(folder(tmp_path)) == 12
    finally:
        logger.removeHandler(caplog.handler)
    assert '2 other files ignored' in caplog.text


@pytest.mark.parametrize('color_type', ['color', 'grayscale'])
def test_gray_of_16_bits_is_scaled(tmp_path, color_type):
    values = np.array([[0, 257], [30000, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / 'x.png')
    load = LoadImage(color_type=color_type)
    image = load.transform(dict(img_path=str(tmp_path / 'x.png')))['img']
    assert image.dtype == np.uint8
    assert image.shape == (2, 2, 3)[: 3 if color_type == 'color' else 2]
    assert np.array_equal(image.reshape(2, 2, -1)[..., 0], [[0, 1], [117, 255]])


@pytest.mark.parametrize('dtype, mode', [(np.int32, 'I'), (np.float32, 'F')])
def test_pixels_of_unknown_range_are_refused_or_skipped(tmp_path, dtype, mode):
    write_image_folder(tmp_path)
    Image.fromarray(np.full((8, 8), 900, dtype)).save(tmp_path / 'cat' / '9.tif')
    assert len(folder(tmp_path, skip_bad_images=True)) == 8
    with pytest.raises(DataError, match=f"9.tif: .*mode '{mode}'"):
        folder(tmp_path)[4]


def test_resizing_averages_and_leaves_32x32_as_it_is(tmp_path):
    config = Config.fromfile(ROOT / 'configs/_base_/datasets/image_folder_32.py')
    steps = [*config.train_dataloader.dataset.pipeline, *config.val_dataloader.dataset.pipeline]
    resizing = [step for step in steps if 'Resize' in step.type]
    assert len(resizing) == 2
    same = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::8] = 255  # one in eight, that is 32 on average
    for step in resizing:
        resize = TRANSFORMS.build(step)
        assert np.array_equal(resize.transform(dict(img=same.copy()))['img'], same)
        assert np.abs(resize.transform(dict(img=stripes))['img'][:, 2:-2] - 32.0).max() < 8


@pytest.mark.parametrize('spoil', [lambda b: b[: len(b) // 2], lambda b: b'GIF'])
def test_bad_image_is_named_or_skipped_and_counted(tmp_path, spoil):
    write_image_folder(tmp_path)
    bad = tmp_path / 'dog' / '2.png'
    bad.write_bytes(spoil(bad.read_bytes()))
    dataset = folder(tmp_path)
    assert len(dataset) == 8
    with pytest.raises(DataError, match=r'^[^<>]*dog/2\.png: [^<>]*$'):
        dataset[6]
    skipping = folder(tmp_path, skip_bad_images=True)
    assert len(skipping) == 7
    assert not any(skipping.get_data_info(i)['img_path'] == str(bad) for i in range(7))


def test_nothing_left_after_skipping(tmp_path):
    (tmp_path / 'cat').mkdir()
    (tmp_path / 'cat' / '1.png').write_bytes(b'no image')
    with pytest.raises(DataError, match='data_root'):
        folder(tmp_path, skip_bad_images=True)

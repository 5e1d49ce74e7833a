import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger
from PIL import Image

from hsakd.apis import find_images
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


@pytest.fixture
def log(caplog):
    """mmengine's messages are in ``caplog``."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield
    logger.removeHandler(caplog.handler)


def test_takes_the_formats_of_predict_and_counts_other_files(tmp_path, caplog, log):
    write_image_folder(tmp_path)
    for name in ('a.webp', 'b.tiff', 'C.TIF', 'd.bmp'):
        Image.new('RGB', (8, 8)).save(tmp_path / 'cat' / name)
    (tmp_path / 'cat' / 'notes.txt').touch()
    Image.new('RGB', (8, 8)).save(tmp_path / 'loose.png')
    assert len(folder(tmp_path)) == 12
    assert '2 other files ignored (.png, .txt)' in caplog.text


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


@pytest.mark.parametrize('order', [('dog', 'ant', 'cat'), ('cat', 'dog', 'ant')])
def test_labels_are_places_in_the_classes_of_the_config(order, tmp_path):
    root = write_image_folder(tmp_path, ('ant', 'cat', 'dog'), per_class=2)
    dataset = folder(root, metainfo=dict(classes=order))
    assert dataset.metainfo['classes'] == order
    for index in range(6):
        info = dataset.get_data_info(index)
        assert order[info['gt_label']] == Path(info['img_path']).parent.name


@pytest.mark.parametrize(
    'classes, words',
    [
        (('cat', 'cow'), r"no folder for \['cow'\] and folders \['dog'\]"),
        (('cat', 'dog', 'cow'), r"got no folder for \['cow'\]$"),
        (('cat', 'cat', 'dog'), r"each name once, got \['cat'\] more often"),
        (('cat',), r"got folders \['dog'\]$"),
    ],
)
def test_names_that_are_not_those_of_the_folders(classes, words, tmp_path):
    with pytest.raises(DataError, match=words):
        folder(write_image_folder(tmp_path), metainfo=dict(classes=classes))


def test_hidden_folders_and_files_are_none(tmp_path, caplog, log):
    root = write_image_folder(tmp_path)
    for hidden in ('.ipynb_checkpoints', 'cat/.ipynb_checkpoints', '__MACOSX', 'dog/@eaDir'):
        shutil.copytree(root / 'cat', root / hidden, ignore=shutil.ignore_patterns('.*'))
    shutil.copy(root / 'cat/0.png', root / 'cat/.0.png')
    (root / '.DS_Store').touch()
    dataset = folder(root)
    assert dataset.metainfo['classes'] == ('cat', 'dog') and len(dataset) == 8
    assert 'other files' not in caplog.text
    assert len(find_images(root)) == 8


@pytest.mark.parametrize('suffix', ['.gif', '.jfif', '.jp2', '.GIF', '.avif', '.pbm', '.jpe'])
def test_other_formats_are_read(suffix, tmp_path):
    root = write_image_folder(tmp_path)
    kind = dict(jfif='JPEG', jpe='JPEG', pbm='PPM').get(suffix[1:])
    image = Image.fromarray(np.full((8, 8), 255, np.uint8)).convert('1' if kind == 'PPM' else 'RGB')
    image.save(root / f'cat/x{suffix}', kind)
    dataset = folder(root)
    assert len(dataset) == 9
    paths = [dataset.get_data_info(index)['img_path'] for index in range(9)]
    index = paths.index(str(root / f'cat/x{suffix}'))
    assert dataset[index]['inputs'].float().mean() > 250


def test_other_files_are_counted_in_linked_folders_too(tmp_path, caplog, log):
    root = write_image_folder(tmp_path / 'a')
    (tmp_path / 'b').mkdir()
    for name in ('cat', 'dog'):
        (tmp_path / 'b' / name).symlink_to(root / name)
    (root / 'cat/notes.txt').touch()
    (root / 'dog/y.heic').touch()
    assert len(folder(tmp_path / 'b')) == 8
    assert '2 other files ignored (.heic, .txt)' in caplog.text


@pytest.mark.parametrize(
    'number, test_mode, said',
    [(0, False, 'no image of dog'), (1, False, 'one image of dog'), (0, True, 'no image of dog'),
     (1, True, None), (2, False, None)],
)  # fmt: skip
def test_classes_of_few_images_are_named(number, test_mode, said, tmp_path, caplog, log):
    """As a warning, which goes to the terminal."""
    root = write_image_folder(tmp_path)
    for path in sorted((root / 'dog').iterdir())[number:]:
        path.unlink()
    dataset = folder(root, test_mode=test_mode)
    assert dataset.metainfo['classes'] == ('cat', 'dog')
    found = [r.getMessage().split(': ')[-1] for r in caplog.records if r.levelname == 'WARNING']
    assert found == ([said] if said else [])


def annotated(tmp_path, lines, classes=('ant', 'cat', 'dog'), **kwargs):
    root = write_image_folder(tmp_path / 'data', ('x',), per_class=4)
    (root / 'x/1.png').rename(root / 'x/a b.png')
    (tmp_path / 'labels.txt').write_text('\n'.join(lines) + '\n')
    metainfo = dict(classes=classes) if classes else None
    dataset = folder(root, ann_file=str(tmp_path / 'labels.txt'), metainfo=metainfo, **kwargs)
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return [(Path(i['img_path']).name, i['gt_label']) for i in infos], dataset.metainfo


@pytest.mark.parametrize(
    'lines',
    [
        ['x/0.png 0', 'x/a b.png 2', 'x/2.png 1'],
        ['x/0.png 1', 'x/a b.png 3', 'x/2.png 2'],
        ['x/0.png ant', 'x/a b.png dog', 'x/2.png cat'],
        ['x/0.png,0', 'x/a b.png,2', 'x/2.png,1'],
        ['image,label', 'x/0.png,0', 'x/a b.png,2', 'x/2.png,1'],
        ['image, label', '"x/0.png", "ant"', 'x/a b.png, dog', 'x/2.png, cat'],
        ['x/0.png;1', 'x/a b.png;3', 'x/2.png;2'],
        ['filename\tclass', 'x/0.png\t0', 'x/a b.png\t2', 'x/2.png\t1'],
    ],
)
def test_annotation_files_of_several_kinds(lines, tmp_path):
    """Columns by spaces, commas, tabs; labels from 0, from 1, and by name; with a header."""
    images, _ = annotated(tmp_path, lines)
    assert images == [('0.png', 0), ('a b.png', 2), ('2.png', 1)]


def test_names_of_an_annotation_file_are_the_classes(tmp_path):
    images, metainfo = annotated(tmp_path, ['x/0.png dog', 'x/2.png cat'], classes=None)
    assert images == [('0.png', 1), ('2.png', 0)] and metainfo['classes'] == ('cat', 'dog')


@pytest.mark.parametrize('classes', [('10', '20'), ('20', '10'), ('1', '10', '20')])
def test_names_of_classes_may_be_numbers(classes, tmp_path):
    images, _ = annotated(tmp_path, ['x/0.png 20', 'x/2.png 10'], classes)
    assert images == [('0.png', classes.index('20')), ('2.png', classes.index('10'))]


def test_no_image_is_taken_for_a_header(tmp_path):
    root = write_image_folder(tmp_path, ('x',))
    for path in (root / 'x').iterdir():
        path.rename(path.with_suffix(''))
    (root / 'labels.txt').write_text('x/0 cat\nx/1 dog\n')
    dataset = folder(root, ann_file='labels.txt')
    assert dataset.get_gt_labels().tolist() == [0, 1] and len(dataset.metainfo['classes']) == 2


@pytest.mark.parametrize(
    'lines, classes, words',
    [
        (['x/0.png 0', 'x/2.png'], 'abc', r"labels.txt, line 2: .*IMAGE LABEL.*got 'x/2.png'"),
        (['x/0.png,0', 'x/2.png,1,train'], 'abc', 'labels.txt, line 2'),
        (['x/0.png 0', 'x/2.png 3'], 'abc', 'labels.txt, line 2: .*got 3'),
        (['x/0.png 1', 'x/2.png 2'], 'abc', 'labels.txt, line 1: .*0..2 with a 0 or 1..3 with a 3'),
        (['x/0.png 1', 'x/2.png 2'], None, 'labels.txt, line 1: .*metainfo.classes'),
        (['x/0.png a', 'x/2.png d'], 'abc', "labels.txt, line 2: .*one of the classes a, .*'d'"),
        (['x/0.png a', 'x/2.png 1'], 'abc', "labels.txt, line 2: .*'1'"),
        (['x/0.png 0', 'x/2.png x'], 'abc', "labels.txt, line 2: expected a number, got 'x'"),
        (['x/0.png 0', 'x/2.png -1'], 'abc', 'labels.txt, line 2: .*got -1'),
        (['image,label', 'x/0.png,a', 'x/2.png,d'], 'abc', "labels.txt, line 3: .*'d'"),
        (['x/0.png 0', 'x/9.png 1'], 'abc', r'labels.txt: .*1 that are not there, .*x/9.png'),
        (['x/0.png 1', 'x/2.png 2'], '21', "labels.txt, line 1: .*the name of one .*got '1'"),
        (['x/0.png,0', '', 'x/2.png,1'], 'abc', "labels.txt, line 2: .*got ''"),
        (['x/0.png,0', '"x/2.png,1', 'x/3.png,1'], 'abc', 'labels.txt, line 2: '),
        (['image,label'], 'abc', "labels.txt, line 1: .*got 'label'"),
        (['image,label'], None, 'labels.txt: .*image for one'),
    ],
)  # fmt: skip
def test_a_bad_line_of_an_annotation_file_is_named(lines, classes, words, tmp_path):
    with pytest.raises(DataError, match=words):
        annotated(tmp_path, lines, classes)


@pytest.mark.parametrize('asked, there', [('val', 'test'), ('test', 'val')])
def test_val_and_test_stand_for_each_other(asked, there, tmp_path):
    write_image_folder(tmp_path / there)
    assert len(folder(tmp_path / asked, test_mode=True)) == 8
    write_image_folder(tmp_path / asked, classes=('cat',))
    assert len(folder(tmp_path / asked, test_mode=True)) == 4
    with pytest.raises(DataError, match='val/ or test/, whichever is there'):
        folder(tmp_path / 'elsewhere' / asked)


@pytest.mark.parametrize('splits', [('train', 'test'), ('Train', 'validation', 'more'), ('train',)])
def test_a_folder_of_splits(splits, tmp_path):
    for split in splits:
        write_image_folder(tmp_path / split)
    expected = f"such as '{tmp_path}/{splits[-1 if splits[-1] == 'test' else 0]}', got the splits"
    with pytest.raises(DataError, match=expected):
        folder(tmp_path, test_mode=True)


def test_classes_may_have_names_of_splits(tmp_path):
    dataset = folder(write_image_folder(tmp_path, classes=('bus', 'train')))
    assert dataset.metainfo['classes'] == ('bus', 'train')

import json

import pytest

from hsakd.datasets.detection import CocoDataset, VOCDataset
from tests.conftest import run_tool
from tests.datasets.conftest import _no_garbage_collection  # noqa: F401
from tests.detection_files import CLASSES, voc_xml, write_voc

TOOL = 'tools/dataset_converters/voc_to_coco.py'


@pytest.fixture
def convert(tool):
    main = tool('dataset_converters/voc_to_coco')
    return lambda *args: main([*map(str, args), '--classes', *CLASSES])


def training_boxes(dataset):
    return [
        [(i['bbox'], i['bbox_label'], i['ignore_flag']) for i in info['instances']]
        for info in dataset
    ]


def voc(root, split, **kwargs):
    return VOCDataset(
        data_root=str(root),
        ann_file=f'ImageSets/Main/{split}.txt',
        metainfo=dict(classes=CLASSES),
        **kwargs,
    )


def coco(root, path, **kwargs):
    return CocoDataset(
        data_root=str(root), ann_file=str(path), metainfo=dict(classes=CLASSES), **kwargs
    )


@pytest.mark.parametrize('test_mode', [False, True])
def test_same_training_boxes(tmp_path, convert, test_mode):
    root = write_voc(tmp_path / 'voc', {'train': 5})
    shapes = [('disc', (-5, 2, 20, 60)), ('square', (9, 9, 10, 30)), ('disc', (3, 3, 6, 9))]
    xml = voc_xml('000001', (64, 48), shapes).replace('difficult>0', 'difficult>1', 1)
    (root / 'Annotations' / '000001.xml').write_text(xml)
    convert(root, 'train', '--out', tmp_path / 'train.json')
    before = voc(root, 'train', test_mode=test_mode)
    after = coco(root, tmp_path / 'train.json', test_mode=test_mode)
    boxes = training_boxes(before)
    assert training_boxes(after) == boxes
    # Clipped and difficult; of one pixel's width and dropped; as it was.
    assert boxes[0] == [([0, 2, 19, 47], 0, 1), ([3, 3, 5, 8], 0, 0)]
    for one, other in zip(before, after, strict=True):
        assert one['img_path'] == other['img_path']
        assert (one['width'], one['height']) == (other['width'], other['height'])


def test_content(tmp_path, convert, capsys):
    root = write_voc(tmp_path / 'voc', {'train': 1})
    shapes = [('disc', (4, 5, 20, 30)), ('square', (1, 2, 30, 40))]
    xml = voc_xml('000001', (64, 48), shapes).replace('difficult>0', 'difficult>1', 1)
    (root / 'Annotations' / '000001.xml').write_text(xml)
    convert(root, 'train', '--out', tmp_path / 'new' / 'train.json')
    assert json.loads((tmp_path / 'new' / 'train.json').read_text()) == dict(
        images=[dict(id=1, file_name='JPEGImages/000001.jpg', width=64, height=48)],
        annotations=[
            dict(
                id=1, image_id=1, category_id=1, bbox=[4, 5, 15, 24], area=15 * 24, iscrowd=1,
                ignore=0,
            ),
            dict(
                id=2, image_id=1, category_id=2, bbox=[1, 2, 28, 37], area=28 * 37, iscrowd=0,
                ignore=0,
            ),
        ],
        categories=[
            dict(id=1, name='disc', supercategory='none'),
            dict(id=2, name='square', supercategory='none'),
        ],
    )  # fmt: skip
    out = capsys.readouterr().out
    assert 'train.json: 1 images, 2 boxes (1 difficult)' in out


def test_several_folders_and_splits(tmp_path):
    """As a user does it, for VOC 2007 and 2012 with VOC's classes."""
    for year, seed in (('VOC2007', 0), ('VOC2012', 1)):
        splits = {'train': 2, 'val': 1}
        write_voc(tmp_path / year, splits, classes=('cat', 'dog'), seed=seed)
    out = tmp_path / 'voc.json'
    splits = ('VOC2007/train', 'VOC2007/val', 'VOC2012/train')
    result = run_tool(TOOL, tmp_path, *splits, '--out', out)
    assert result.returncode == 0, result.stderr
    assert 'VOC2012/train: 2 images' in result.stdout
    assert '5 images' in result.stdout
    content = json.loads(out.read_text())
    assert [image['file_name'] for image in content['images']] == [
        'VOC2007/JPEGImages/000001.jpg',
        'VOC2007/JPEGImages/000002.jpg',
        'VOC2007/JPEGImages/000003.jpg',
        'VOC2012/JPEGImages/000001.jpg',
        'VOC2012/JPEGImages/000002.jpg',
    ]
    assert len(content['categories']) == 20
    dataset = CocoDataset(
        data_root=str(tmp_path),
        ann_file=str(out),
        metainfo=dict(classes=VOCDataset.METAINFO['classes']),
    )
    assert len(dataset) == 5
    labels = {i['bbox_label'] for info in dataset for i in info['instances']}
    assert labels == {VOCDataset.METAINFO['classes'].index(name) for name in ('cat', 'dog')}


def test_nothing_is_overwritten(tmp_path, in_process):
    root = write_voc(tmp_path / 'voc', {'train': 1, 'val': 1})
    out = tmp_path / 'out.json'
    args = ('--out', out, '--classes', *CLASSES)
    assert in_process(TOOL, root, 'train', *args)[0] == 0
    before = out.read_bytes()
    assert in_process(TOOL, root, 'train', *args)[0] == 0  # the same content
    status, err = in_process(TOOL, root, 'val', *args)
    assert status == 1 and 'out.json' in err and '--force' in err
    assert out.read_bytes() == before
    assert in_process(TOOL, root, 'val', *args, '--force')[0] == 0
    assert out.read_bytes() != before


@pytest.mark.parametrize(
    'splits, options, words',
    [
        (['test'], [], 'test.txt'),
        (['train', 'trainval'], [], 'JPEGImages/000001.jpg'),
        (['train'], ['--classes', 'disc'], "'square'"),
        (['train'], ['--out', '/dev/null/out.json'], '/dev/null'),
    ],
)
def test_errors_are_one_message(tmp_path, in_process, splits, options, words):
    root = write_voc(tmp_path / 'voc', {'train': 2})
    lists = root / 'ImageSets' / 'Main'
    (lists / 'trainval.txt').write_text((lists / 'train.txt').read_text())
    # Of options given twice the later one counts.
    options = ('--out', tmp_path / 'out.json', '--classes', *CLASSES, *options)
    status, err = in_process(TOOL, root, *splits, *options)
    assert status == 1
    assert words in err and 'Traceback' not in err
    assert not (tmp_path / 'out.json').exists()


def test_options_of_the_data_set(tmp_path, tool):
    root = write_voc(tmp_path / 'voc', {'train': 3})
    (root / 'JPEGImages' / '000001.jpg').unlink()
    out = tmp_path / 'out.json'
    tool('dataset_converters/voc_to_coco')(
        [
            str(root), 'train', '--out', str(out), '--classes', 'disc',
            '--skip-bad-images', '--ignore-other-classes',
        ]
    )  # fmt: skip
    content = json.loads(out.read_text())
    assert [image['file_name'][-10:] for image in content['images']] == ['000002.jpg', '000003.jpg']
    assert {entry['category_id'] for entry in content['annotations']} == {1}

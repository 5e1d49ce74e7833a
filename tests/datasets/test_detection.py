import json
import tarfile
from pathlib import Path

import mmcv
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.datasets import CocoDataset as MMDetCoco
from mmdet.datasets import VOCDataset as MMDetVOC
from mmengine.logging import MMLogger
from PIL import Image

from hsakd.datasets.detection import CocoDataset, VOCDataset
from hsakd.datasets.detection.boxes import clean_box
from hsakd.evaluation.coco_metric import CocoMetric
from hsakd.utils.errors import ConfigError, DataError
from tests.conftest import ROOT
from tests.detection_files import CLASSES, voc_xml, write_coco, write_voc

BCCD = ROOT.parent / 'shared' / 'data' / 'bccd_voc.tar.xz'
LIST = 'ImageSets/Main/train.txt'
COCO_JSON = 'annotations/instances_train.json'


def voc(root, split='train', classes=CLASSES, **kwargs):
    return VOCDataset(
        data_root=str(root),
        ann_file=f'ImageSets/Main/{split}.txt',
        metainfo=dict(classes=classes),
        **kwargs,
    )


def coco(root, split='train', classes=CLASSES, **kwargs):
    return CocoDataset(
        data_root=str(root),
        ann_file=f'annotations/instances_{split}.json',
        data_prefix=dict(img=split),
        metainfo=dict(classes=classes),
        **kwargs,
    )


@pytest.fixture
def voc_root(tmp_path):
    return write_voc(tmp_path / 'voc', {'train': 4, 'test': 2})


@pytest.fixture
def coco_root(tmp_path):
    return write_coco(tmp_path / 'coco', {'train': 4, 'test': 2})


@pytest.fixture
def warnings(monkeypatch):
    """What is logged as a warning."""
    messages = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'warning', messages.append)
    return messages


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def edit_xml(*changes):
    """A change of the first training annotation of VOC."""

    def spoil(root):
        edit(root / 'Annotations' / '000001.xml', *changes)

    return spoil


def edit_json(change, split='train'):
    """A change of the content of a JSON of COCO."""

    def spoil(root):
        path = root / 'annotations' / f'instances_{split}.json'
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


def set_shapes(root, *shapes, name='000001', size=(64, 48)):
    """Make an annotation of VOC hold (class, box) with x1, y1 from 0 and x2, y2 excluded."""
    (root / 'Annotations' / f'{name}.xml').write_text(voc_xml(name, size, shapes))


coordinates = st.integers(-100, 200) | st.floats(-1e4, 1e4)


@given(
    st.tuples(coordinates, coordinates, coordinates, coordinates),
    st.integers(1, 100),
    st.integers(1, 100),
)
def test_cleaned_box_is_in_the_image_and_in_the_box(box, max_x, max_y):
    cleaned = clean_box(box, max_x, max_y)
    inside = 0 <= box[0] and 0 <= box[1] and box[2] <= max_x and box[3] <= max_y
    large = box[2] - box[0] >= 1 and box[3] - box[1] >= 1
    if inside and large:
        assert cleaned == box
    if not large:
        assert cleaned is None or min(cleaned[2] - cleaned[0], cleaned[3] - cleaned[1]) > 0.999
    if cleaned is not None:
        x1, y1, x2, y2 = cleaned
        assert 0 <= x1 < x2 <= max_x and 0 <= y1 < y2 <= max_y
        assert x1 >= box[0] and y1 >= box[1] and x2 <= box[2] and y2 <= box[3]


def test_voc_as_mmdet_reads_it(voc_root):
    ours = voc(voc_root)
    theirs = MMDetVOC(
        data_root=str(voc_root),
        ann_file='ImageSets/Main/train.txt',
        data_prefix=dict(sub_data_root=''),
        metainfo=dict(classes=CLASSES),
    )
    assert len(ours) == len(theirs) == 4
    for a, b in zip(ours, theirs, strict=True):
        assert a['instances']
        b['img_path'] = str(voc_root / 'JPEGImages' / f'{b["img_id"]}.jpg')
        assert a == b
    assert ours.metainfo['classes'] == CLASSES


def test_coco_as_mmdet_reads_it(coco_root):
    ours = coco(coco_root, test_mode=True)
    theirs = MMDetCoco(
        data_root=str(coco_root),
        ann_file=COCO_JSON,
        data_prefix=dict(img='train'),
        metainfo=dict(classes=CLASSES),
        test_mode=True,
    )
    assert [*ours] == [*theirs]
    assert len(ours) == 4


def test_labels_are_positions_in_the_classes_of_the_config(coco_root, voc_root):
    """mmdet's go by the order of the file, whatever the config's."""
    given, turned = coco(coco_root), coco(coco_root, classes=CLASSES[::-1])
    for a, b in zip(given, turned, strict=True):
        for one, other in zip(a['instances'], b['instances'], strict=True):
            assert one['bbox_label'] == 1 - other['bbox_label']
            assert one['bbox'] == other['bbox']
    assert voc(voc_root, classes=CLASSES[::-1])[0]['instances'][0]['bbox_label'] == 1


def test_boxes_of_voc_are_never_changed_and_others_clipped(voc_root, warnings):
    set_shapes(voc_root, ('disc', (0, 0, 64, 48)), ('disc', (63 - 1, 0, 64, 48)))
    boxes = [instance['bbox'] for instance in voc(voc_root)[0]['instances']]
    assert boxes == [[0, 0, 63, 47], [62, 0, 63, 47]]
    assert not warnings

    set_shapes(voc_root, ('disc', (-3, 5, 20, 60)), ('square', (1, 2, 20, 30)))
    boxes = [instance['bbox'] for instance in voc(voc_root)[0]['instances']]
    assert boxes == [[0, 5, 19, 47], [1, 2, 19, 29]]
    (message,) = warnings
    assert '1 clipped to the image (' in message and 'dropped' not in message
    assert str(voc_root / 'Annotations' / '000001.xml') in message


@pytest.mark.parametrize('test_mode', [False, True])
@pytest.mark.parametrize(
    'box',
    [
        (9, 9, 10, 20),  # one pixel wide: no width in training
        (20, 5, 10, 15),
        (-9, 5, 1, 15),
    ],
)
def test_degenerate_boxes_are_dropped(voc_root, warnings, box, test_mode):
    set_shapes(voc_root, ('disc', (1, 2, 20, 30)), ('square', box), ('disc', box))
    (instance,) = voc(voc_root, test_mode=test_mode)[0]['instances']
    assert instance['bbox'] == [1, 2, 19, 29]
    (message,) = warnings
    assert '2 dropped' in message and 'clipped' not in message
    assert message.count('000001.xml') == 1


def test_boxes_of_coco_are_clipped_and_dropped(coco_root, warnings):
    boxes = [[-4, 1, 20, 20], [0, 0, 64, 48], [60, 40, 4.004, 8], [5, 5, 0, 9], [64, 5, 9, 9]]

    def change(content):
        content['annotations'] = [
            dict(id=i, image_id=1, category_id=1 + i % 2, bbox=box, area=1)
            for i, box in enumerate(boxes, 1)
        ]
        content['annotations'].append({**content['annotations'][1], 'id': 9, 'area': 0})

    edit_json(change)(coco_root)
    dataset = coco(coco_root)
    boxes = [instance['bbox'] for instance in dataset[0]['instances']]
    assert boxes == [[0, 1, 16, 21], [0, 0, 64, 48], [60, 40, 64, 48]]
    (message,) = warnings  # rounding is not told
    assert '1 clipped to the image (000001.jpg)' in message
    assert '3 dropped' in message and 'of 6 boxes' in message
    # Images whose boxes were all dropped are empty for the filter too.
    assert len(coco(coco_root, filter_cfg=dict(filter_empty_gt=True))) == 1


def test_ignored_and_crowd_boxes_of_coco_are_as_in_mmdet(coco_root):
    first('annotations', ignore=1)(coco_root)
    edit_json(lambda content: content['annotations'][1].update(iscrowd=1))(coco_root)
    assert [i['ignore_flag'] for i in coco(coco_root)[0]['instances']] == [1]


@pytest.mark.parametrize('new', ['<width>0</width>', ''])
def test_size_that_the_annotation_lacks_is_that_of_the_image(voc_root, new):
    edit_xml('<width>64</width>', new)(voc_root)
    info = voc(voc_root)[0]
    assert (info['width'], info['height']) == (64, 48)


def resize_xml(size):
    """A change of the sizes in all annotations of VOC, whose pictures are 64x48."""
    width, height = size

    def spoil(root):
        for path in (root / 'Annotations').glob('*.xml'):
            edit(path, '<width>64</width>', f'<width>{width}</width>')
            edit(path, '<height>48</height>', f'<height>{height}</height>')

    return spoil


@pytest.mark.parametrize('size', [(32, 24), (640, 480), (48, 64), (1, 1)])
@pytest.mark.parametrize('kind', ['voc', 'coco'])
def test_sizes_that_are_not_those_of_the_files(kind, size, request, warnings):
    """No box is lost, the images count with the sizes of their files, and it is said once."""
    load, root = dict(voc=voc, coco=coco)[kind], request.getfixturevalue(f'{kind}_root')
    dataset = load(root)
    whole = [dataset[index] for index in range(4)]
    if kind == 'voc':
        resize_xml(size)(root)
    else:
        values = dict(width=size[0], height=size[1])
        edit_json(lambda content: [image.update(values) for image in content['images']])(root)
    dataset = load(root)
    assert [dataset[index] for index in range(4)] == whole
    (said,) = warnings
    assert '4 of 4 images have another size than annotated, and that of the file counts' in said
    assert f'000001.jpg: 64x48 and not {size[0]}x{size[1]}' in said


@pytest.mark.parametrize('orientation, shown', [(1, (64, 48)), (3, (64, 48)), (6, (48, 64))])
@pytest.mark.parametrize('kind', ['voc', 'coco'])
def test_sizes_are_those_that_are_shown(kind, orientation, shown, request, warnings):
    """By EXIF, as OpenCV turns images."""
    load, root = dict(voc=voc, coco=coco)[kind], request.getfixturevalue(f'{kind}_root')
    path = Path(load(root)[0]['img_path'])
    exif = Image.Exif()
    exif[274] = orientation
    Image.open(path).save(path, exif=exif)
    assert mmcv.imread(path).shape[1::-1] == shown
    info = load(root)[0]
    assert (info['width'], info['height']) == shown
    assert any('1 of 4 images have another size' in said for said in warnings) == (orientation == 6)


def test_size_of_what_is_no_image_is_that_of_the_annotation(voc_root):
    """Until it is met in training."""
    (voc_root / 'JPEGImages/000001.jpg').write_text('no image')
    info = voc(voc_root).get_data_info(0)
    assert (info['width'], info['height']) == (64, 48)


@pytest.mark.parametrize(
    'kind, keys',
    [
        ('annotations', ['iscrowd']),
        ('annotations', ['area']),
        ('annotations', ['id']),
        ('annotations', ['id', 'iscrowd', 'area', 'segmentation']),
        ('images', ['width', 'height']),
        ('categories', ['supercategory']),
    ],
)
def test_what_exports_leave_out(kind, keys, coco_root):
    """Data and metric have it by default."""
    whole = [coco(coco_root)[index] for index in range(4)]

    def leave_out(content):
        content.pop('info', None)
        for entry in content[kind]:
            for key in keys:
                entry.pop(key, None)

    edit_json(leave_out)(coco_root)
    loaded = [coco(coco_root)[index] for index in range(4)]
    assert loaded == whole
    metric = CocoMetric(ann_file=str(coco_root / COCO_JSON), metric='bbox')
    metric.dataset_meta = dict(classes=CLASSES)
    for info in loaded:
        found = dict(
            bboxes=torch.tensor([instance['bbox'] for instance in info['instances']]),
            labels=torch.tensor([instance['bbox_label'] for instance in info['instances']]),
            scores=torch.ones(len(info['instances'])),
        )
        sample = dict(img_id=info['img_id'], ori_shape=(48, 64), pred_instances=found)
        metric.process({}, [sample])
    assert metric.evaluate(4)['coco/bbox_mAP'] == 1


@pytest.mark.parametrize('suffix', ['.png', '.JPG'])
def test_other_image_suffixes(voc_root, suffix):
    image = voc_root / 'JPEGImages' / '000001.jpg'
    Image.open(image).save(image.with_suffix(suffix))
    image.unlink()
    assert voc(voc_root)[0]['img_path'] == str(image.with_suffix(suffix))


def test_difficult_and_small_boxes_are_ignored_in_training(voc_root):
    edit_xml('<difficult>0', '<difficult>1')(voc_root)
    flags = [instance['ignore_flag'] for instance in voc(voc_root)[0]['instances']]
    assert flags == [1, 0]
    dataset = voc(voc_root, filter_cfg=dict(bbox_min_size=17))
    flags = [instance['ignore_flag'] for instance in dataset[0]['instances']]
    assert flags == [1, 1]  # 17 x 17 and 16 x 16
    with pytest.raises(ConfigError, match='bbox_min_size'):
        voc(voc_root, filter_cfg=dict(bbox_min_size=17), test_mode=True)


def test_filter(voc_root):
    set_shapes(voc_root)
    assert len(voc(voc_root, filter_cfg=dict(filter_empty_gt=True))) == 3
    assert len(voc(voc_root, filter_cfg=dict(filter_empty_gt=True), test_mode=True)) == 4
    words = r"train.txt, dataset.filter_cfg=.* 4 .*, got 1 .* 'disc', 'square' .* 4 .*min_size=50"
    with pytest.raises(DataError, match=words):
        voc(voc_root, filter_cfg=dict(filter_empty_gt=True, min_size=50))


def remove(*names):
    return lambda root: [(root / name).unlink() for name in names]


XML = 'Annotations/000001.xml'
BAD_VOC = [
    (edit_xml('</annotation>', ''), r'Annotations/000001.xml: .*line 3\d'),
    (edit_xml('<xmin>45</xmin>', ''), r"xml, object 1 \('disc'\), bndbox/xmin"),
    (edit_xml('<ymax>19<', '<ymax>nan<'), "bndbox/ymax: .*'nan'"),
    (edit_xml('<width>64', '<width>wide'), "000001.xml, size/width: .*'wide'"),
    (edit_xml('<name>disc</name>', ''), '000001.xml, object 1'),
    (remove(XML), 'Annotations/000001.xml'),
    (remove('JPEGImages/000001.jpg'), 'JPEGImages/000001.jpg'),
]


@pytest.mark.parametrize('spoil, words', BAD_VOC)
def test_bad_image_of_voc_is_named_or_skipped(voc_root, warnings, spoil, words):
    spoil(voc_root)
    with pytest.raises(DataError, match=rf'{words}.*\(of 4 images in .*train.txt, 1 '):
        voc(voc_root)
    dataset = voc(voc_root, skip_bad_images=True)
    assert [info['img_id'] for info in dataset] == ['000002', '000003', '000004']
    (message,) = warnings
    assert 'skipped 1 of 4 images' in message and '000001' in message


def test_missing_images_are_counted(voc_root, coco_root):
    names = [f'{i:06d}.jpg' for i in range(1, 5)]
    for root, folder, load in ((voc_root, 'JPEGImages', voc), (coco_root, 'train', coco)):
        remove(*(f'{folder}/{name}' for name in names[1:]))(root)
        with pytest.raises(DataError, match=r'000002.jpg: .* 3 '):
            load(root)
        assert len(load(root, skip_bad_images=True)) == 1
        remove(f'{folder}/{names[0]}')(root)
        with pytest.raises(DataError, match=r'train\.(txt|json): .* 4,'):
            load(root, skip_bad_images=True)


def test_images_that_cannot_be_decoded_are_skipped(voc_root):
    image = voc_root / 'JPEGImages' / '000001.jpg'
    image.write_bytes(image.read_bytes()[:300])
    assert len(voc(voc_root)) == 4
    assert len(voc(voc_root, skip_bad_images=True)) == 3


@pytest.mark.parametrize(
    'spoil, words',
    [
        (remove(LIST), 'dataset.ann_file=.*train.txt'),
        (lambda root: edit(root / LIST, '000002', '000001'), "train.txt: .*'000001'"),
    ],
)
def test_bad_list_of_voc(voc_root, spoil, words):
    spoil(voc_root)
    with pytest.raises(DataError, match=words):
        voc(voc_root)


def without(kind, key):
    return edit_json(lambda content: content[kind][0].pop(key))


def first(kind, **values):
    return edit_json(lambda content: content[kind][0].update(values))


def again(kind, **values):
    return edit_json(lambda content: content[kind].append({**content[kind][0], **values}))


@pytest.mark.parametrize(
    'spoil, words',
    [
        (remove(COCO_JSON), 'dataset.ann_file=.*train.json'),
        (lambda root: (root / COCO_JSON).write_bytes(b'{"a": [1, }'), 'train.json: .*column 11'),
        (edit_json(lambda content: content.pop('annotations')), "train.json: .*'annotations'"),
        (without('images', 'file_name'), r'train.json, images\[0\]: .*file_name, id.* file_name'),
        (edit_json(lambda content: content['images'].append(7)), r'images\[4\]: '),
        (edit_json(lambda content: content['images'].clear()), 'train.json'),
        (again('images'), 'id of images .* 1 '),
        (again('categories', id=7), "category .*'disc'"),
        (first('annotations', image_id=99), 'annotation 1: .*image_id .*99'),
    ],
)
def test_bad_file_of_coco(coco_root, spoil, words):
    spoil(coco_root)
    for skip_bad_images in (False, True):
        with pytest.raises(DataError, match=words):
            coco(coco_root, skip_bad_images=skip_bad_images)


@pytest.mark.parametrize(
    'spoil, words',
    [
        (first('annotations', bbox=[1, 2, 3]), r'annotation 1: .*bbox .*\[1, 2, 3\]'),
        (first('annotations', bbox=[1, 2, 3, float('nan')]), 'bbox .*nan'),
        (first('annotations', area='big'), "annotation 1: .* area, got 'big'"),
        (first('annotations', category_id=9), r'category_id of \[1, 2\], got 9'),
        (remove('train/000001.jpg'), 'train/000001.jpg'),
    ],
)
def test_bad_image_of_coco_is_named_or_skipped(coco_root, warnings, spoil, words):
    spoil(coco_root)
    with pytest.raises(DataError, match=rf'{words}.* 1 '):
        coco(coco_root, test_mode=True)
    dataset = coco(coco_root, test_mode=True, skip_bad_images=True)
    assert [info['img_id'] for info in dataset] == [2, 3, 4]
    assert 'skipped 1 of 4 images' in warnings[0]


def test_other_classes_of_voc(voc_root, warnings):
    words = r"train.txt: .*metainfo.classes .*'disc'.*'square' \(\d .*Annotations/000002.xml\)"
    for test_mode in (False, True):
        with pytest.raises(DataError, match=words):
            voc(voc_root, classes=('disc',), test_mode=test_mode)
    dataset = voc(voc_root, classes=('disc',), ignore_other_classes=True)
    both = voc(voc_root)
    for info, whole in zip(dataset, both, strict=True):
        discs = [i['bbox'] for i in whole['instances'] if i['bbox_label'] == 0]
        assert [i['bbox'] for i in info['instances']] == discs
    assert not warnings
    voc(voc_root, classes=(*CLASSES, 'star'))
    assert warnings == [f"{voc_root}/ImageSets/Main/train.txt: no box of 'star'"]


def test_other_classes_of_coco(coco_root, warnings):
    words = r"train.json: .*metainfo.classes .*'square'.*'disc' \(\d .*\)"
    with pytest.raises(DataError, match=words):
        coco(coco_root, classes=('square',))
    dataset = coco(coco_root, classes=('square',), ignore_other_classes=True)
    for info, whole in zip(dataset, coco(coco_root), strict=True):
        squares = [i['bbox'] for i in whole['instances'] if i['bbox_label'] == 1]
        assert [i['bbox'] for i in info['instances']] == squares
        assert all(i['bbox_label'] == 0 for i in info['instances'])
    words = r"train.json: .*metainfo.classes, among 'disc', 'square'.*'star'"
    with pytest.raises(DataError, match=words):
        coco(coco_root, classes=(*CLASSES, 'star'))
    edit_json(lambda content: content['categories'].append(dict(id=3, name='star')))(coco_root)
    with pytest.raises(DataError, match=r"metainfo.classes .*'star' \(0 boxes"):
        coco(coco_root)
    assert not warnings
    coco(coco_root, classes=(*CLASSES, 'star'))
    assert "no box of 'star'" in warnings[0]


@pytest.mark.parametrize('classes', ['disc', ('disc', 'disc')])
def test_classes_that_are_no_list_of_names(voc_root, classes):
    with pytest.raises(ConfigError, match='dataset.metainfo.classes'):
        voc(voc_root, classes=classes)


def test_names_of_voc_are_used_for_its_own_classes_only(tmp_path):
    root = write_voc(tmp_path / 'VOC2007', {'train': 2}, classes=('cat', 'dog'))
    prefix = dict(data_prefix=dict(sub_data_root='VOC2007'), ann_file=f'VOC2007/{LIST}')
    own = VOCDataset(data_root=str(root.parent), **prefix)
    assert own.metainfo['dataset_type'] == 'VOC2007'
    subset = VOCDataset(data_root=str(root.parent), metainfo=dict(classes=('cat', 'dog')), **prefix)
    assert subset.metainfo['dataset_type'] is None


@pytest.mark.skipif(not BCCD.is_file(), reason=f'{BCCD} is absent')
def test_bccd(tmp_path, warnings):
    with tarfile.open(BCCD) as archive:
        archive.extractall(tmp_path, filter='data')
    classes = ('WBC', 'RBC', 'Platelets')
    dataset = voc(tmp_path / 'BCCD', 'trainval', classes)
    assert len(dataset) == 292
    assert sum(len(info['instances']) for info in dataset) == 3941
    (message,) = warnings
    assert 'of 3943 boxes 2 dropped' in message
    assert 'BloodImage_00338.xml' in message and 'BloodImage_00343.xml' in message

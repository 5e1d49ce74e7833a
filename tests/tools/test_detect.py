"""From a folder of images with boxes to a published detector, in one call."""

import importlib.util
import itertools
import json
import shutil
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image
from torchvision.models import resnet34
from torchvision.ops import batched_nms as torchvision_nms

import hsakd
from hsakd.apis import export_detector, load_detector
from hsakd.apis.detection import average_precision, detector_model
from hsakd.apis.network_names import network_config
from hsakd.apis.own_boxes import look_at_boxes
from hsakd.engine.pretrained_backbone import load_pretrained_backbone
from hsakd.registry import MODELS
from hsakd.utils.errors import ConfigError, DataError, UserError
from tests.conftest import ROOT
from tests.detection_files import CLASSES, write_coco, write_voc, write_yolo
from tests.tools.conftest import run_with_others

SPLITS = dict(train=6, val=3)
ALONE = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location('operators', sys.argv[1])
operators = importlib.util.module_from_spec(spec)
spec.loader.exec_module(operators)
operators.install()  # where mmcv is compiled, nothing stands in
from mmdet.apis import inference_detector, init_detector
found = inference_detector(init_detector(*sys.argv[2:4], device='cpu'), sys.argv[4])
assert not [name for name in sys.modules if name.startswith('hsakd')]
print(json.dumps(found.pred_instances.scores.tolist()))
"""


@pytest.fixture(scope='module')
def detected(tmp_path_factory):
    """The folder of a call that came to its end, its images, and what it printed."""
    folder = tmp_path_factory.mktemp('detect')
    data = write_yolo(folder / 'my shapes', {'': 25})
    (data / 'labels/000002.txt').unlink()
    output, commands = call(folder, data)
    assert [command[0] for command in commands] == ['train.py', 'test.py']
    return folder, data, output


def call(folder, data, status=0):
    options = '--image-size', 96, '--epochs', 1, '--batch-size', 2, '--out', folder / 'out'
    return run_with_others(
        folder,
        'tools/detect.py',
        '--data',
        data,
        *options,
        managed=(DetLocalVisualizer,),
        status=status,
    )


def published(folder):
    return next((folder / 'out').glob('faster-rcnn_resnet18-*.pth'))


def test_one_call(detected):
    folder, data, output = detected
    assert "my-shapes, in YOLO's layout: 20 images with" in output
    assert '1 of them without a box; 2 classes (disc, square)' in output
    name = 'faster-rcnn_resnet18-fpn_1xb2-1e_my-shapes'
    assert [path.stem for path in (folder / 'out/configs').iterdir()] == [name]
    assert (folder / f'out/work_dirs/{name}/epoch_1.pth').is_file()
    held_out = (folder / 'out/split/test.txt').read_text().splitlines()
    assert len(held_out) == 5 and all((data / file).is_file() for file in held_out)
    test = json.loads((folder / 'out/annotations/test.json').read_text())
    assert [image['file_name'] for image in test['images']] == held_out
    metrics = average_precision(
        folder / 'out/annotations/test.json', folder / 'out/predictions.bbox.json'
    )
    assert {'AP', 'AP50', 'AP/disc', 'AP50/disc'} <= metrics.keys()
    assert f'  all {metrics["AP"]:22.1f} {metrics["AP50"]:5.1f}\n' in output


def test_again(detected):
    folder, data, output = detected
    before = sorted((folder / 'out').rglob('*'))
    again, commands = call(folder, data)
    assert not commands and sorted((folder / 'out').rglob('*')) == before
    assert again.splitlines()[-8:] == output.splitlines()[-8:]
    out = folder / 'out'
    made = hsakd.detect(data, image_size=96, epochs=1, batch_size=2, out=out)
    assert made.published == published(folder) and made.checkpoint.is_file()
    found = made.predict(data / 'images/000001.jpg', 0.05)[0]
    assert {*found.classes} <= {*CLASSES} and len(found.boxes) == len(found.scores) > 0
    other = shutil.copytree(data, folder / 'other/my shapes')
    (other / 'labels/000003.txt').unlink()
    _, commands = call(folder, other, status=1)
    assert not commands and sorted((folder / 'out').rglob('*')) == before


def test_mmdet_alone(detected, tmp_path):
    folder, data, _ = detected
    model, image = published(folder), data / 'images/000001.jpg'
    operators = importlib.util.find_spec('hsakd.utils.mmcv_ext').origin
    script = tmp_path / 'alone.py'
    script.write_text(ALONE)
    files = operators, model.with_suffix('.py'), model, image
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', script, *files],
        cwd=tmp_path, env={'OMP_NUM_THREADS': '1'}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout.splitlines()[-1])
    assert scores == sorted(scores, reverse=True) and len(scores) > 0


def test_onnx_alone(detected, tmp_path, tool, capsys):
    folder, data, _ = detected
    image = data / 'images/000001.jpg'
    publish = tool('model_converters/publish_student')
    publish([str(published(folder)), str(tmp_path / 'shapes'), '--onnx', '--image', str(image)])
    assert 'corners of ONNX Runtime and mmdet differ by' in capsys.readouterr().out
    session = onnxruntime.InferenceSession(str(next(tmp_path.glob('*.onnx'))))
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata['classes']) == [*CLASSES] and metadata['opset'] == '16'
    resize = json.loads(metadata['resize'])
    assert (resize['width'], resize['height'], resize['largest']) == (96, 96, 96)
    pixels = np.empty((96, 96, 3), np.float32)
    pixels[:] = resize['pad_value']
    resized = Image.open(image).resize((96, 72), Image.BILINEAR)  # of 64x48
    pixels[:72] = np.asarray(resized)
    boxes, scores, labels = session.run(None, {'images': pixels.transpose(2, 0, 1)[None]})
    assert boxes.shape == (len(scores), 4) and labels.dtype == np.int64 and len(scores) > 0
    assert (np.diff(scores) <= 0).all() and {*labels} <= {0, 1} and boxes.max() <= 96


@pytest.mark.parametrize(
    'options, words',
    [
        (['--onnx'], 'expected --onnx and --image FILE'),
        (['--onnx', '--image', 'a.jpg'], "--image 'a.jpg': expected an image file, got no such"),
        (['--network', '1'], '--network 1: expected a classifier, got a detector'),
    ],
)
def test_what_is_not_published(detected, tmp_path, tool, options, words):
    publish = tool('model_converters/publish_student')
    with pytest.raises(UserError, match=words):
        publish([str(published(detected[0])), str(tmp_path / 'out/shapes'), *options])
    assert not (tmp_path / 'out').exists()


def test_onnx_that_disagrees(detected, tmp_path, tool, monkeypatch):
    folder, data, _ = detected
    monkeypatch.setattr('hsakd.apis.detector_onnx.BOX_TOLERANCE', 1e-12)
    options = '--onnx', '--image', str(data / 'images/000001.jpg')
    publish = tool('model_converters/publish_student')
    with pytest.raises(UserError, match='ONNX model, not written: expected the boxes of mmdet'):
        publish([str(published(folder)), str(tmp_path / 'out/shapes'), *options])
    assert not (tmp_path / 'out').exists()


def test_onnx_where_rounding_decides(detected, monkeypatch):
    """Hardly trained, it finds regions that overlap by just NMS's threshold in many images."""
    folder, data, _ = detected
    detector = load_detector(published(folder))
    images = sorted((data / 'images').iterdir())[:7]
    for image in images:
        assert export_detector(detector, image)[1] > 0

    def other_threshold(boxes, scores, groups, threshold):
        return torchvision_nms(boxes, scores, groups, threshold + 0.01)

    monkeypatch.setattr('hsakd.apis.detector_onnx.batched_nms', other_threshold)
    with pytest.raises(UserError, match='ONNX model, not written'):
        for image in images:
            export_detector(detector, image)


def boxes_of(found):
    """Class and box of each object, by the images of both parts."""
    parts = []
    for content in found.contents:
        names = {image['id']: image['file_name'][-10:] for image in content['images']}
        kinds = {entry['id']: entry['name'] for entry in content['categories']}
        parts.append(
            [
                (names[a['image_id']], kinds[a['category_id']], a['bbox'])
                for a in content['annotations']
            ]
        )
    return parts


def test_layouts_are_the_same(tmp_path):
    voc = look_at_boxes(write_voc(tmp_path / 'voc', SPLITS), tmp_path)
    yolo = look_at_boxes(write_yolo(tmp_path / 'yolo', SPLITS), tmp_path)
    coco = look_at_boxes(write_coco(tmp_path / 'coco', dict(train2017=6, val2017=3)), tmp_path)
    assert [found.layout for found in (voc, coco, yolo)] == ['VOC', 'COCO', 'YOLO']
    assert voc.classes == coco.classes == yolo.classes == [*CLASSES]
    assert not [path for path in tmp_path.iterdir() if path.name in ('split', 'annotations')]
    for one, other, third in zip(*map(boxes_of, (voc, yolo, coco)), strict=True):
        assert [entry[:2] for entry in one] == [entry[:2] for entry in other]
        assert [entry[:2] for entry in one] == [entry[:2] for entry in third]
        for first, second, last in zip(one, other, third, strict=True):
            assert first[2] == pytest.approx(second[2], abs=1e-3)
            assert first[2] == pytest.approx(last[2], abs=1)  # without VOC's last pixel


def test_splits_above_and_none(tmp_path):
    flat = write_yolo(tmp_path / 'flat', {'': 9})
    (flat / 'data.yaml').unlink()
    (flat / 'labels/classes.txt').write_text('disc\nsquare\n')
    found = look_at_boxes(flat, tmp_path)
    assert [len(content['images']) for content in found.contents] == [7, 2]
    assert look_at_boxes(flat, tmp_path).files == found.files
    write_yolo(tmp_path / 'inside', SPLITS)
    above = tmp_path / 'above'
    for split, kind in itertools.product(SPLITS, ('images', 'labels')):
        shutil.copytree(tmp_path / 'inside' / kind / split, above / split / kind)
    shutil.copy(tmp_path / 'inside/data.yaml', above)
    found = look_at_boxes(above, tmp_path)
    assert [len(content['images']) for content in found.contents] == [6, 3]
    voc = write_voc(tmp_path / 'voc', dict(train=9))
    shutil.rmtree(voc / 'ImageSets')
    (voc / 'Annotations/000004.xml').unlink()  # an image of background
    found = look_at_boxes(voc, tmp_path)
    assert [len(content['images']) for content in found.contents] == [7, 2]


YOLO_BREAKS = {
    'a word': ('0 0.5 0.5 x 0.1\n', r'000001.txt, line 1: expected CLASS X Y .*got .0 0.5 0.5 x'),
    'four numbers': ('\n0 0.5 0.5 0.1\n', r'000001.txt, line 2: expected CLASS X Y'),
    'pixels': ('0 30 20 10 10\n', r'000001.txt, line 1: .* in 0..1 of the image'),
    'no such class': (
        '2 0.5 0.5 0.1 0.1\n',
        r'line 1: expected a class 0..1 .disc, square., got 2',
    ),
}


@pytest.mark.parametrize('case', YOLO_BREAKS)
def test_lines_that_cannot_be(tmp_path, case):
    data = write_yolo(tmp_path / 'data', SPLITS)
    text, words = YOLO_BREAKS[case]
    (data / 'labels/train/000001.txt').write_text(text)
    with pytest.raises(DataError, match=words):
        look_at_boxes(data, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_folders_that_cannot_be(tmp_path):
    with pytest.raises(DataError, match='data=.*none.*no such folder'):
        look_at_boxes(tmp_path / 'none', tmp_path)
    (tmp_path / 'photos').mkdir()
    with pytest.raises(DataError, match='(?s)VOC.*COCO.*YOLO.*got a folder with nothing'):
        look_at_boxes(tmp_path / 'photos', tmp_path)
    voc = write_voc(tmp_path / 'voc', SPLITS)
    (voc / 'JPEGImages/000001.jpg').unlink()
    with pytest.raises(DataError, match='JPEGImages/000001.jpg: expected an image, got no file'):
        look_at_boxes(voc, tmp_path)
    found = look_at_boxes(voc, tmp_path, skip_bad_images=True)
    assert [len(content['images']) for content in found.contents] == [5, 3]
    (voc / 'Annotations/000002.xml').write_text('<annotation>')
    with pytest.raises(DataError, match='000002.xml: expected an annotation in XML'):
        look_at_boxes(voc, tmp_path)
    yolo = write_yolo(tmp_path / 'yolo', SPLITS)
    (yolo / 'images/val/000007.jpg').unlink()
    with pytest.raises(DataError, match='images/val/000007.jpg: expected an image, got no file'):
        look_at_boxes(yolo, tmp_path)
    (yolo / 'data.yaml').write_text('names: {0: disc, 2: square}\n')
    with pytest.raises(DataError, match=r'data.yaml, names: expected numbers 0..1 .*got \[0, 2\]'):
        look_at_boxes(yolo, tmp_path)
    (yolo / 'data.yaml').unlink()
    with pytest.raises(DataError, match='data.yaml with names .*or classes.txt'):
        look_at_boxes(yolo, tmp_path)
    coco = write_coco(tmp_path / 'coco', SPLITS)
    (coco / 'train/000001.jpg').unlink()
    with pytest.raises(DataError, match='train/000001.jpg: expected an image, got no file'):
        look_at_boxes(coco, tmp_path)


def test_boxes_that_leave_the_image(tmp_path):
    data = write_yolo(tmp_path / 'data', {'': 5})
    label = data / 'labels/000001.txt'
    label.write_text('0 0.01 0.5 0.25 0.5\n1 0.5 0.5 0.001 0.5\n')
    ((first, *_),) = [
        [entry for name, _, *entry in part if name == '000001.jpg']
        for part in boxes_of(look_at_boxes(data, tmp_path))
        if any(name == '000001.jpg' for name, *_ in part)
    ]
    assert first[0] == pytest.approx([0, 12, 8.64, 24])


@pytest.mark.parametrize(
    'name, kind, strides',
    [
        ('torchvision/resnet18', 'mmdet.ResNet', [4, 8, 16, 32]),
        ('mobilenet_v2', 'mmpretrain.MobileNetV2', [4, 8, 16, 32]),
        ('convnext_tiny', 'mmpretrain.ConvNeXt', [4, 8, 16, 32]),
        ('swin_t', 'mmpretrain.SwinTransformer', [4, 8, 16, 32]),
        ('resnet18', 'mmpretrain.ResNet_CIFAR', [4, 8]),
        ('wrn-16-2', 'hsakd.WideResNet', [4]),
        ('resnet8', 'hsakd.CIFARResNet', [4]),
        ('vgg8', 'hsakd.CIFARVGG', [4, 8]),
        ('mobilenet-v2', 'hsakd.CIFARMobileNetV2', [4, 8]),
        ('shufflenet-v1', 'hsakd.CIFARShuffleNetV1', [4, 8]),
        ('shufflenet-v2', 'hsakd.CIFARShuffleNetV2', [4, 8]),
    ],
)
def test_backbones(tmp_path, save_training_checkpoint, name, kind, strides):
    network = network_config(name, 3, 224 if name == 'swin_t' else 32, 'student')
    trained = MODELS.build(network)
    config = dict(default_scope='hsakd', model=network)
    save_training_checkpoint(tmp_path / 'student.pth', config, trained)
    found, model = detector_model(tmp_path / 'student.pth', 5)
    assert model['backbone']['type'] == kind and found and '/' not in found
    assert model['roi_head']['bbox_roi_extractor']['featmap_strides'] == strides

    config = Config.fromfile(ROOT / 'configs/_base_/models/faster-rcnn_resnet18-fpn.py')
    config.merge_from_dict(dict(model=model))
    with DefaultScope.overwrite_default_scope('mmdet'):
        detector = MODELS.build(config.model)
    text = load_pretrained_backbone(detector, str(tmp_path / 'student.pth'), None)
    assert '0 missing' in text
    for key, value in detector.backbone.state_dict().items():
        if key in trained.backbone.state_dict():
            assert torch.equal(value, trained.backbone.state_dict()[key])
        else:  # a classifier has a norm of its last output alone
            assert 'norms of outputs that start anew: 6' in text
            assert kind in ('mmpretrain.ConvNeXt', 'mmpretrain.SwinTransformer')
    maps = detector.eval().extract_feat(torch.zeros(1, 3, 64, 96))
    sizes = [tuple(level.shape[2:]) for level in maps[: len(strides)]]
    assert sizes == [(64 // stride, 96 // stride) for stride in strides]
    assert len(maps) == len(strides) + 1


@pytest.mark.parametrize(
    'backbone, strides',
    [
        (dict(type='HRNet', arch='w18'), [4, 8, 16, 32]),  # gives all that it has
        (dict(type='VisionTransformer', arch='deit-t'), [16]),
        (dict(type='DenseNet', arch='121'), [8, 16, 32]),
    ],
)
def test_backbones_of_mmpretrain(tmp_path, save_training_checkpoint, backbone, strides):
    model = detector_model(save_mmpretrain(tmp_path, save_training_checkpoint, **backbone), 5)[1]
    assert model['roi_head']['bbox_roi_extractor']['featmap_strides'] == strides


def save_mmpretrain(tmp_path, save_training_checkpoint, **backbone):
    """A checkpoint as mmpretrain's own training saves it."""
    head = dict(type='LinearClsHead', num_classes=3, in_channels=8)
    config = dict(
        default_scope='mmpretrain',
        model=dict(type='ImageClassifier', backbone=backbone, head=head),
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        network = MODELS.build(config['model'])
    save_training_checkpoint(tmp_path / 'student.pth', config, network)
    return tmp_path / 'student.pth'


def test_backbones_without_a_config(tmp_path):
    torch.save(resnet34().state_dict(), tmp_path / 'resnet.pth')
    name, model = detector_model(tmp_path / 'resnet.pth', 5)
    assert name == 'resnet34' and model['backbone']['depth'] == 34


def test_backbones_without_maps(tmp_path, save_training_checkpoint):
    file = save_mmpretrain(tmp_path, save_training_checkpoint, type='LeNet5', num_classes=3)
    with pytest.raises(ConfigError, match='student.pth.*ResNet, or another backbone that gives m'):
        detector_model(file, 5)


@pytest.mark.parametrize('name', ['voc/faster-rcnn_resnet18-c4', 'voc/retinanet_resnet18-fpn'])
def test_other_detectors_as_onnx(tmp_path, save_training_checkpoint, name):
    path = next((ROOT / 'configs/detection').glob(f'{name}_*.py'))
    config = Config.fromfile(path)
    config.model.data_preprocessor.bgr_to_rgb = False
    config.test_dataloader.dataset.pipeline[1].scale = (128, 96)
    for part in (config.model, config.model.backbone):
        part.pop('init_cfg', None)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(config.model)
    for key, layer in model.named_modules():
        if isinstance(layer, torch.nn.BatchNorm2d):  # so that maps differ by place
            torch.nn.init.normal_(layer.running_mean, std=0.1)
        elif key.endswith(('fc_cls', 'rpn_cls', 'retina_cls')):
            torch.nn.init.normal_(layer.weight, std=1 if key.endswith('retina_cls') else 0.05)
    save_training_checkpoint(tmp_path / 'detector.pth', config.to_dict(), model)
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'noise.png')
    content, count, corners, scores = export_detector(
        load_detector(tmp_path / 'detector.pth'), tmp_path / 'noise.png'
    )
    assert content and count > 20 and corners < 0.01 and scores < 1e-4


def test_detectors_that_onnx_is_not_for(detected):
    detector = load_detector(published(detected[0]))
    detector.roi_head.test_cfg.nms.type = 'soft_nms'
    with pytest.raises(ConfigError, match='model: expected a Faster R-CNN or RetinaNet'):
        export_detector(detector, 'none.png')

"""tools/predict.py with detectors."""

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image
from torch import nn

from hsakd.apis import detect, load_classifier, load_detector
from hsakd.apis.running import build_runner, load_for_test
from hsakd.registry import MODELS
from hsakd.utils.errors import CheckpointError, ConfigError, DataError, UserError
from hsakd.utils.third_party import import_mmdet
from tests.conftest import ROOT, network_cfg, run_tool
from tests.detection_files import CLASSES, write_voc

CONFIG = 'configs/detection/bccd/faster-rcnn_resnet18-fpn_1xb4-6e_bccd.py'
#: A network of a few channels, and a test pipeline for small images.
SMALL = {
    'model.backbone.stem_channels': 8,
    'model.backbone.base_channels': 8,
    'model.neck.in_channels': [8, 16, 32, 64],
    'model.neck.out_channels': 16,
    'model.rpn_head.in_channels': 16,
    'model.rpn_head.feat_channels': 16,
    'model.roi_head.bbox_roi_extractor.out_channels': 16,
    'model.roi_head.bbox_head.in_channels': 16,
    'model.roi_head.bbox_head.fc_out_channels': 16,
    'model.roi_head.bbox_head.num_classes': len(CLASSES),
    'model.data_preprocessor.mean': [90.0, 120.0, 150.0],
    'model.data_preprocessor.std': [60.0, 70.0, 80.0],
    'test_dataloader.num_workers': 0,
    'test_dataloader.persistent_workers': False,
    'test_dataloader.dataset.metainfo.classes': CLASSES,
    'test_dataloader.dataset.pipeline.1.scale': (96, 64),
}
PIPELINE = 'test_dataloader.dataset.pipeline'
NMS = 'model.test_cfg.rcnn.nms'


@pytest.fixture
def main(tool: Callable) -> Callable:
    return tool('predict')


@pytest.fixture(scope='module')
def detector() -> nn.Module:
    """A small detector with random weights, for all tests."""
    import_mmdet()
    config = Config.fromfile(ROOT / CONFIG)
    config.merge_from_dict(SMALL)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(config.model)
    for layer in (model.roi_head.bbox_head.fc_cls, model.rpn_head.rpn_cls):
        nn.init.normal_(layer.weight)
    return model


@pytest.fixture
def save(
    detector: nn.Module, tmp_path: Path, save_training_checkpoint: Callable
) -> Callable[..., str]:
    """``save(options, classes)``: a checkpoint of the detector with these options in its config."""

    def save_(options: dict | None = None, classes: tuple[str, ...] | None = CLASSES) -> str:
        path, config = tmp_path / 'epoch_3.pth', Config.fromfile(ROOT / CONFIG)
        config.merge_from_dict({**SMALL, **(options or {})})
        save_training_checkpoint(path, config.to_dict(), detector, classes)
        return str(path)

    return save_


def save_image(path: Path, width: int, height: int, mode: str = 'RGB') -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def table(out: str) -> list[list[str]]:
    """The cells of each row."""
    rows = [line.split('│')[1:-1] for line in out.splitlines() if line.startswith('│')]
    return [[cell.strip() for cell in row] for row in rows]


def test_tells_and_draws_what_is_in_the_images_of_a_folder(save: Callable, tmp_path: Path) -> None:
    data = write_voc(tmp_path / 'voc', dict(test=8))
    result = run_tool(
        'tools/predict.py', data / 'JPEGImages', '--model', save(), '--score-thr', 0,
        '--topk', 3, '--out', tmp_path / 'out',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    rows = table(result.stdout)
    images = [f'{i:06d}.jpg' for i in range(1, 9)]
    assert [row[0] for row in rows if row[0]] == images and len(rows) == 3 * len(images)
    assert {row[1] for row in rows} <= set(CLASSES)
    assert f'images: 8; pictures in {tmp_path / "out"}' in result.stdout
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == [f'{i}.png' for i in images]


@pytest.mark.parametrize('rgb', [True, False])
def test_finds_what_a_test_finds(rgb: bool, save: Callable, tmp_path: Path) -> None:
    data = write_voc(tmp_path / 'voc', dict(test=2), size=(90, 70))
    options = {'model.data_preprocessor.bgr_to_rgb': rgb}
    path = save(options)
    config = Config.fromfile(ROOT / CONFIG)
    config.merge_from_dict(
        {**SMALL, **options, 'test_dataloader.dataset.data_root': f'{data}/',
         'work_dir': str(tmp_path / 'work')}
    )  # fmt: skip
    runner = build_runner(config)
    load_for_test(runner, path)
    runner.model.eval()
    detector = load_detector(path)
    count = 0
    for batch in runner.test_dataloader:
        with torch.no_grad():
            samples = runner.model.test_step(batch)
        found = list(detect(detector, [Path(sample.img_path) for sample in samples], 0))
        for sample, detections in zip(samples, found, strict=True):
            wanted = sample.pred_instances
            assert detections.classes == [CLASSES[label] for label in wanted.labels]
            assert detections.scores == pytest.approx(wanted.scores.tolist(), abs=1e-4)
            np.testing.assert_allclose(detections.boxes, wanted.bboxes, atol=0.05)
            count += len(detections.scores)
    assert count > 4
    other = load_detector(save({'model.data_preprocessor.bgr_to_rgb': not rgb}))
    assert next(detect(other, [detections.image], 0)).scores[:2] != detections.scores[:2]


def test_takes_images_of_any_size_and_kind(
    save: Callable, tmp_path: Path, main: Callable, capsys: pytest.CaptureFixture
) -> None:
    folder, out = tmp_path / 'images', tmp_path / 'out'
    save_image(folder / 'b' / 'wide.JPG', 300, 20)
    save_image(folder / 'b' / 'gray.png', 8, 90, 'L')
    save_image(folder / 'b' / 'deep.png', 60, 50, 'I;16')
    save_image(folder / 'alpha.webp', 500, 450, 'RGBA')
    save_image(folder / 'cmyk.jpeg', 1, 1, 'CMYK')
    main([str(folder), '--model', save(), '--topk', '2', '--out', str(out), '--score-thr', '0'])
    rows = table(capsys.readouterr().out)
    names = ['alpha.webp', 'b/deep.png', 'b/gray.png', 'b/wide.JPG', 'cmyk.jpeg']
    assert [row[0] for row in rows if row[0]] == names
    for name in names:
        with Image.open(out / f'{name}.png') as picture:
            assert 400 <= max(picture.size) <= 1600
    image = ''
    for name, label, score, box in rows:
        image = name or image
        if not score:
            assert label == 'nothing above 0'
            continue
        x1, y1, x2, y2 = map(float, box.split())
        with Image.open(folder / image) as opened:
            assert 0 <= x1 <= x2 <= opened.width and 0 <= y1 <= y2 <= opened.height


def test_draws_boxes_where_they_are(save: Callable, tmp_path: Path) -> None:
    image, picture = tmp_path / 'black.png', tmp_path / 'out' / 'black.png'
    Image.new('RGB', (160, 120)).save(image)  # enlarged to 533.3 x 400
    detector = load_detector(save())

    def drawn(topk: int | None) -> tuple[np.ndarray, np.ndarray]:
        (found,) = detect(detector, [image], 0, topk, {image: picture})
        with Image.open(picture) as opened:
            return np.array(found.boxes), np.array(opened.convert('RGB'))

    boxes, pixels = drawn(topk=1)
    assert len(boxes) == 1 and pixels.shape == (400, 533, 3)
    x1, y1, _, y2 = boxes[0] * 400 / 120
    ys, xs = np.nonzero(pixels.max(2) > 60)
    assert (xs.min(), ys.min(), ys.max()) == pytest.approx((x1, y1, y2), abs=4)
    boxes, pixels = drawn(topk=None)
    assert boxes.max(0)[2:] == pytest.approx((160, 120))  # one at the border
    assert pixels.shape == (400, 533, 3) and pixels.min(2).max() < 250  # no white margin


def test_shows_what_is_above_the_threshold(
    save: Callable, tmp_path: Path, main: Callable, capsys: pytest.CaptureFixture
) -> None:
    image = save_image(tmp_path / 'images' / 'a.png', 96, 64)
    args = [str(image), '--model', save(), '--out', str(tmp_path / 'out')]
    main([*args, '--score-thr', '0'])
    scores = [float(row[2]) for row in table(capsys.readouterr().out)]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) > 4
    for options, threshold in (
        (['--score-thr', f'{(scores[0] + scores[-1]) / 2}'], (scores[0] + scores[-1]) / 2),
        ([], 0.3),
    ):
        main([*args, *options])
        above = [float(row[2]) for row in table(capsys.readouterr().out) if row[2]]
        assert above == [score for score in scores if score > threshold]
    main([*args, '--score-thr', '1'])
    assert table(capsys.readouterr().out) == [['a.png', 'nothing above 1', '', '']]
    assert (tmp_path / 'out' / 'a.png.png').is_file()


def test_a_threshold_is_for_detectors(
    tmp_path: Path, main: Callable, save_training_checkpoint: Callable
) -> None:
    path, config = tmp_path / 'epoch_3.pth', dict(default_scope='hsakd', model=network_cfg())
    save_training_checkpoint(path, config, MODELS.build(network_cfg()))
    image = save_image(tmp_path / 'images' / 'a.png', 32, 32)
    with pytest.raises(UserError, match='--score-thr=0.5: .*--model='):
        main([str(image), '--model', str(path), '--score-thr', '0.5'])
    with pytest.raises(ConfigError, match="epoch_3.pth.*'hsakd'"):
        load_detector(path)


def test_names_an_image_that_is_too_narrow(save: Callable, tmp_path: Path, main: Callable) -> None:
    image = save_image(tmp_path / 'images' / 'bad.png', 3000, 1)
    with pytest.raises(DataError, match='bad.png: .*3000x1'):
        main([str(image), '--model', save(), '--out', str(tmp_path / 'out')])


def test_classes_without_names_are_numbers(save: Callable, tmp_path: Path) -> None:
    image = save_image(tmp_path / 'a.png', 96, 64)
    (found,) = detect(load_detector(save(classes=None)), [image], 0)
    assert set(found.classes) <= {'0', '1'} and found.classes
    with pytest.raises(CheckpointError, match='meta.dataset_meta.classes: .*2 .* 3'):
        load_detector(save(classes=('a', 'b', 'c')))


def test_all_weights_have_to_fit(save: Callable, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='--model=.*epoch_3.pth.*weights'):
        load_detector(save({'model.roi_head.bbox_head.num_classes': 3}), '--model')
    path = save()
    checkpoint = torch.load(path)
    del checkpoint['state_dict']['rpn_head.rpn_cls.bias']
    torch.save(checkpoint, path)
    with pytest.raises(CheckpointError, match='rpn_head.rpn_cls.bias'):
        load_detector(path)


def test_loads_no_other_weights(save: Callable) -> None:
    init = dict(type='Pretrained', checkpoint='torchvision://nonsense')
    options = {'model.init_cfg': init, 'model.backbone.init_cfg': init}
    path = save({**options, 'model.backbone.pretrained': 'nonsense.pth'})
    wanted = torch.load(path)['state_dict']
    loaded = load_detector(path).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in wanted.items())


@pytest.mark.parametrize(
    ('key', 'what'),
    [
        ('model', dict(type='os.mkdir')),
        ('model.backbone', dict(_delete_=True, type='os.mkdir')),
        ('model.backbone.plugins', [dict(cfg=dict(type='os.mkdir'), position='after_conv1')]),
        ('model.rpn_head.anchor_generator', dict(_delete_=True, type='os.mkdir')),
        ('model.data_preprocessor.batch_augments', [dict(type='os.mkdir')]),
        ('model.roi_head.bbox_roi_extractor.roi_layer', dict(_delete_=True, type='os.mkdir')),
        (PIPELINE, [dict(type='os.mkdir')]),
        (f'{PIPELINE}.1', dict(type='RandomChoice', transforms=[[dict(type='os.mkdir')]])),
    ],
)
def test_builds_nothing_unregistered(
    key: str, what: object, save: Callable, tmp_path: Path
) -> None:
    made = tmp_path / 'made'
    for value in (what, *(what if isinstance(what, list) else ())):
        if isinstance(value, dict) and value.get('type') == 'os.mkdir':
            value['path'] = str(made)
    path = save({key: what})
    with pytest.raises(ConfigError, match=rf'{key}.*os\.mkdir'):
        load_detector(path)
    assert not made.exists()


def test_evaluates_nothing(save: Callable, tmp_path: Path) -> None:
    """mmcv evaluates the type of the NMS, mmdet an argument of a class for tracking."""
    text = f'__import__("os").mkdir({str(tmp_path / "made")!r})'
    with pytest.raises(ConfigError, match=rf'{NMS}.type.*__import__'):
        load_detector(save({f'{NMS}.type': text}))
    tracking = dict(_delete_=True, type='CameraMotionCompensation', warp_mode=text)
    with pytest.raises(ConfigError, match='type.*CameraMotionCompensation'):
        load_detector(save({'model.rpn_head.anchor_generator': tracking}))
    teacher = dict(type='KnowledgeDistillationSingleStageDetector', teacher_config='evil.py')
    with pytest.raises(ConfigError, match='type.*KnowledgeDistillation'):
        load_detector(save({'model': teacher}))
    assert not (tmp_path / 'made').exists()
    assert load_detector(save({f'{NMS}.type': 'soft_nms'}))


def test_configs_without_a_detector_or_a_pipeline(save: Callable, tmp_path: Path) -> None:
    head = dict(_delete_=True, type='mmdet.FPN', in_channels=[8], out_channels=8, num_outs=1)
    with pytest.raises(ConfigError, match='model.type: .*mmdet.FPN'):
        load_detector(save({'model': head}))
    with pytest.raises(ConfigError, match=PIPELINE):
        load_detector(save({'test_dataloader.dataset': dict(_delete_=True, type='VOCDataset')}))
    with pytest.raises(ConfigError, match='model: .*nonsense'):
        load_detector(save({'model.nonsense': 1}))


def test_without_mmdet(save: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent(MetaPathFinder):
        def find_spec(self, name: str, *args: object) -> None:
            if name == 'mmdet':
                raise ModuleNotFoundError(name=name)

    path = save()
    monkeypatch.delitem(sys.modules, 'mmdet')
    monkeypatch.delitem(sys.modules, 'mmdet.evaluation')
    monkeypatch.setattr(sys, 'meta_path', [Absent(), *sys.meta_path])
    with pytest.raises(ConfigError, match='mmdet'):
        load_detector(path)


def test_classifiers_do_not_take_detectors(save: Callable) -> None:
    with pytest.raises(ConfigError, match='model.type: .*FasterRCNN'):
        load_classifier(save())

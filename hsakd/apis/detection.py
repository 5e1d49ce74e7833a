"""One call from a folder of images with boxes to a trained detector."""

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config

from hsakd.engine.pretrained_backbone import KEY, RANDOM, parameters
from hsakd.registry import MODELS
from hsakd.utils.checkpoint import network_state_dict, read_checkpoint
from hsakd.utils.config_text import checkpoint_config, checkpoint_meta
from hsakd.utils.errors import ConfigError
from hsakd.utils.files import write_files
from hsakd.utils.normalization import network_config

from .classifier import export_config
from .detector import Detections, load_detector
from .detector import detect as find_objects
from .inference import find_images
from .own_boxes import OwnBoxes, describe_boxes, look_at_boxes
from .publishing import publish_detector
from .running import is_detection
from .training_runs import TrainingRun, call, tested_metrics, train

#: Iterations of a training whose length is not given, and its bounds in epochs.
_ITERATIONS, _EPOCHS = 3_000, (12, 72)
#: Bounds of the side that images are made, where none is given.
_SIDES = 320, 800
#: By how much the maps of a backbone may be smaller than the image, to be levels of the pyramid.
_STRIDES = 4, 8, 16, 32
#: Side of the image that tells what a backbone makes of it.
_PROBE = 128
_ACCEPTED = 'a ResNet, or another backbone that gives maps 4 to 32 times smaller than images'
#: Settings with which mmpretrain's backbones give maps, where classifiers get vectors of them, and
#: pad maps that are smaller than their windows.
_MAPS = dict(gap_before_final_norm=False, out_type='featmap', pad_small_map=True)
#: ResNets by blocks of their third stage, and whether these are bottlenecks.
_DEPTHS = {(2, False): 18, (6, False): 34, (6, True): 50, (23, True): 101, (36, True): 152}


@dataclass
class Detector:
    """What :func:`detect` made.

    Attributes:
        published: The detector, which mmdet loads.
        checkpoint: Of the training, which it was published from.
        config: Of the training, which tools/train.py trains again.
        predictions: On the test images, as COCO's results.
        metrics: Average precision on test images in percent: 'AP' (of IoU 0.5 to 0.95), 'AP50',
            and both of each class ('AP/NAME', 'AP50/NAME').
    """

    published: Path
    checkpoint: Path
    config: Path
    predictions: Path
    metrics: dict[str, float] = field(default_factory=dict)

    def predict(self, images: str | Path, score_thr: float = 0.3) -> Sequence[Detections]:
        """What is in an image, or in those of a folder, of a higher score."""
        return list(find_objects(load_detector(self.published), find_images(images), score_thr))


def detect(
    data: str | Path,
    backbone: str | Path | None = None,
    image_size: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    out: str | Path = 'runs/detector',
    seed: int = 0,
    skip_bad_images: bool = False,
) -> Detector:
    """Train a Faster R-CNN with a feature pyramid on a folder of images with boxes; publish it.

    OUT gets an ordinary config, which tools/train.py trains again, annotations as COCO's JSON, the
    work dir of the training, predictions on test images, and the published detector. Called again
    after an interruption it goes on.

    Args:
        data: A folder in the layout of VOC, COCO or YOLO, see
            :func:`~hsakd.apis.own_boxes.look_at_boxes`. Without a split a fifth of the images is
            held out.
        backbone: What the backbone starts from: a published student, a checkpoint of a training, or
            a ResNet of torchvision; by default a ResNet-18 of random weights.
        image_size: Longest side of the images that the detector gets, in pixels; by default that of
            the images, 320 to 800.
        epochs: By default what makes 3,000 iterations, 12 to 72.
        batch_size: By default 4, or 2 of fewer than 100 images.
        out: Folder for everything.
        seed: Of random numbers.
        skip_bad_images: Leave out and count images that are missing or cannot be decoded.

    Raises:
        UserError: An argument or the data cannot be used, or the training failed.
    """
    out = Path(out)
    found = look_at_boxes(data, out, skip_bad_images)
    low, high = _SIDES
    size = min(high, max(low, found.size)) if image_size is None else image_size
    ok = type(size) is int and 32 <= size <= 4096
    ConfigError.check(ok, 'image_size', 'a number of pixels from 32 to 4096', repr(size))
    name, model = detector_model(backbone, len(found.classes))
    count = len(found.contents[0]['images'])
    batch = batch_size or (4 if count >= 100 else 2)
    low, high = _EPOCHS
    epochs = epochs or min(high, max(low, round(_ITERATIONS * batch / count)))
    print(
        f'{describe_boxes(found)}\nFaster R-CNN with FPN on {name}, images of at most '
        f'{size}x{size} pixels, {epochs} epochs in batches of {batch}',
        flush=True,
    )
    predictions = (out / 'predictions').resolve()
    source = RANDOM if backbone is None else str(Path(backbone).expanduser().resolve())
    content = {
        '_base_': [
            'hsakd::_base_/models/faster-rcnn_resnet18-fpn.py',
            'hsakd::_base_/detection_runtime.py',
        ],
        'model': model,
        KEY: source,
        **_data(found, size, batch, skip_bad_images, str(predictions)),
        **_recipe(batch, epochs, seed, -(-count // batch)),
    }
    config = out / 'configs' / f'faster-rcnn_{name}-fpn_1xb{batch}-{epochs}e_{found.name}.py'
    found.write()
    write_files({config: Config(content).pretty_text.encode()}, force=True)
    run = TrainingRun(config, out / 'work_dirs' / config.stem / f'epoch_{epochs}.pth')
    train(run, f'[1/2] {config.stem}')
    made = predictions.with_suffix('.bbox.json')
    test_dir = run.work_dir / 'test'
    tested = tested_metrics(test_dir, run.checkpoint, Config.fromfile(str(config)))
    if tested is None or not made.is_file():
        arguments = [str(config), str(run.checkpoint), '--work-dir', str(test_dir)]
        call('test', arguments, f'[2/2] {config.stem}, test')
    metrics = average_precision(found.test, made)
    files = publish_detector(load_detector(run.checkpoint), out / f'faster-rcnn_{name}', force=True)
    return Detector(files[0], run.checkpoint, config, made, metrics)


def average_precision(annotations: Path, predictions: Path) -> dict[str, float]:
    """COCO's average precision in percent, of all classes and of each that has boxes.

    Args:
        annotations: COCO's JSON.
        predictions: COCO's results in JSON, of all its images.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        truth = COCO(str(annotations))
        results = json.loads(predictions.read_text())
        evaluation = COCOeval(truth, truth.loadRes(results) if results else COCO(), 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
    # IoU, recall, class, all areas, 100 boxes an image; -1 where there is no box.
    precision = evaluation.eval['precision'][..., 0, -1]
    precision = np.where(precision < 0, np.nan, 100 * precision)
    names = [truth.cats[number]['name'] for number in evaluation.params.catIds]
    parts = {'': precision} | {f'/{name}': precision[:, :, i] for i, name in enumerate(names)}
    parts = {name: part for name, part in parts.items() if not np.isnan(part).all()}
    of = {'AP': slice(None), 'AP50': slice(1)}
    return {f'{k}{name}': float(np.nanmean(p[of[k]])) for name, p in parts.items() for k in of}


def detector_model(source: str | Path | None, num_classes: int) -> tuple[str, dict]:
    """A name for the backbone, and ``model`` of a detector's config that starts with it.

    The levels of the pyramid are the last maps of the backbone that are 4, 8, 16 and 32 times
    smaller than images, as many of these as it has.

    Args:
        source: A checkpoint; None for a ResNet-18.
        num_classes: Of the data.

    Raises:
        CheckpointError: It cannot be read, or holds no network.
        ConfigError: It has no such maps.
    """
    backbone = dict(type='mmdet.ResNet', depth=18)
    if source is not None:
        backbone = _trained_backbone(source)
    where = 'backbone' if source is None else f'backbone={str(source)!r}'
    backbone, channels, strides = _levels(backbone, where)
    kind = backbone['type'].rpartition('.')[2]
    name = f'resnet{backbone["depth"]}' if kind == 'ResNet' else kind.lower().replace('_', '-')
    head = dict(
        bbox_roi_extractor=dict(featmap_strides=strides, finest_scale=14 * strides[0]),
        bbox_head=dict(num_classes=num_classes),
    )
    return name, dict(
        backbone=dict(backbone, _delete_=True),
        neck=dict(in_channels=channels, num_outs=len(channels) + 1),
        # One more level for the largest things.
        rpn_head=dict(anchor_generator=dict(strides=[*strides, 2 * strides[-1]])),
        roi_head=head,
        # Fewer regions an image than mmdet's, which are for pictures of many things.
        train_cfg=dict(
            rpn_proposal=dict(nms_pre=1000, max_per_img=300), rcnn=dict(sampler=dict(num=128))
        ),
        test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=300)),
    )


def _trained_backbone(source: str | Path) -> dict:
    """The config of the backbone in a checkpoint."""
    key = 'backbone'
    content = read_checkpoint(source, key)
    if 'cfg' in checkpoint_meta(content):
        config = checkpoint_config(content, source, key)
        network = config.model if is_detection(config) else network_config(config, None)
        backbone = export_config(MODELS, network['backbone'], key, config, set())
        # mmdet's own has the same weights, and mmdet alone loads it.
        known = {'type', 'depth', 'num_stages', 'out_indices', 'style', 'base_channels',
                 'stem_channels', 'strides', 'dilations', 'deep_stem', 'avg_down', 'norm_cfg',
                 'zero_init_residual', 'frozen_stages', 'norm_eval'}  # fmt: skip
        if backbone['type'] == 'mmpretrain.ResNet' and backbone.keys() <= known:
            backbone['type'] = 'mmdet.ResNet'
        return backbone
    weights = network_state_dict(content, source, key)
    blocks = {name.split('.')[2] for name in weights if name.startswith('backbone.layer3.')}
    bottleneck = 'backbone.layer3.0.conv3.weight' in weights
    depth = _DEPTHS.get((len(blocks), bottleneck))
    found = 'weights of something else, without a config'
    ConfigError.check(depth, f'{key}={str(source)!r}', _ACCEPTED, found)
    return dict(type='mmdet.ResNet', depth=depth)


def _levels(backbone: dict, where: str) -> tuple[dict, list[int], list[int]]:
    """The backbone with outputs for a pyramid, and the channels and strides of these."""
    backbone = {key: value for key, value in backbone.items() if key != 'out_indices'}
    if backbone['type'] == 'mmdet.ResNet':
        backbone |= dict(frozen_stages=-1, norm_eval=False)  # other images: it learns whole
    known = parameters(MODELS.get(backbone['type']))
    backbone |= {key: value for key, value in _MAPS.items() if key in known}
    # No backbone tells how many stages it has before it is built; HRNet gives all.
    numbers = range(20, 0, -1) if 'out_indices' in known else [0]
    reason = 'none'
    for number in numbers:
        outputs = dict(out_indices=tuple(range(number))) if number else {}
        try:
            built = MODELS.build(dict(backbone, **outputs))
            built.eval()  # of mmdet's it gives nothing back
            with torch.no_grad():
                maps = built(torch.zeros(1, 3, _PROBE, _PROBE))
            sizes = [m.shape[-1] if m.ndim == 4 else None for m in maps]
        except Exception as error:  # of anybody's layers
            reason = ' '.join(f'{type(error).__name__}: {error}'.split())
            continue
        deepest = {_PROBE // size: i for i, size in enumerate(sizes) if size}
        strides = [stride for stride in _STRIDES if stride in deepest]
        indices = tuple(deepest[stride] for stride in strides)
        reason = f'a {backbone["type"]} whose stages make them {sorted(deepest)} times smaller'
        ok = indices == tuple(range(len(maps))) if not number else strides
        ConfigError.check(ok, where, _ACCEPTED, reason)
        channels = [maps[index].shape[1] for index in indices]
        return backbone | (dict(out_indices=indices) if number else {}), channels, strides
    raise ConfigError.expected(where, _ACCEPTED, f'a {backbone["type"]} ({reason})')


def _data(
    found: OwnBoxes, size: int, batch: int, skip_bad_images: bool, predictions: str
) -> dict[str, object]:
    resize = dict(type='Resize', scale=(size, size), keep_ratio=True)
    load, boxes = dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)
    keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    common = dict(
        type='hsakd.CocoDataset',
        data_root=f'{found.root}/',
        metainfo=dict(classes=tuple(found.classes)),
        skip_bad_images=skip_bad_images,
    )

    def loader(path: Path, pipeline: list[dict], train: bool) -> dict:
        return dict(
            batch_size=batch,
            num_workers=2,
            sampler=dict(type='DefaultSampler', shuffle=train),
            dataset=dict(
                common, ann_file=str(path.resolve()), pipeline=pipeline, test_mode=not train
            ),
        )

    flip, pack = dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')
    trained = loader(found.train, [load, boxes, resize, flip, pack], True)
    tested = loader(found.test, [load, resize, boxes, dict(pack, meta_keys=keys)], False)
    metric = dict(
        type='hsakd.CocoMetric', ann_file=str(found.test.resolve()), metric='bbox', classwise=True
    )
    return dict(
        train_dataloader=dict(trained, batch_sampler=dict(type='AspectRatioBatchSampler')),
        val_dataloader=tested,
        test_dataloader=tested,
        val_evaluator=metric,
        test_evaluator=dict(metric, outfile_prefix=predictions),
    )


def _recipe(batch: int, epochs: int, seed: int, iterations: int) -> dict[str, object]:
    warm_up = min(500, max(1, epochs * iterations // 10))
    return dict(
        train_cfg=dict(
            type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=max(1, epochs // 4)
        ),
        val_cfg=dict(type='ValLoop'),
        test_cfg=dict(type='TestLoop'),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=warm_up),
            dict(type='CosineAnnealingLR', T_max=epochs, by_epoch=True, convert_to_iter_based=True),
        ],
        optim_wrapper=dict(
            type='OptimWrapper',
            optimizer=dict(type='SGD', lr=0.0025 * batch, momentum=0.9, weight_decay=0.0001),
            clip_grad=dict(max_norm=10),
        ),
        auto_scale_lr=dict(base_batch_size=batch),
        default_hooks=dict(logger=dict(interval=10), checkpoint=dict(save_best='coco/bbox_mAP')),
        randomness=dict(seed=seed),
    )

"""Detectors out of checkpoints of training, and what they find in images."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import mmcv
import numpy as np
import torch
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry
from mmengine.structures import InstanceData
from torch import nn

from hsakd.datasets.image_folder import read_image
from hsakd.registry import MODELS, TASK_UTILS, TRANSFORMS
from hsakd.utils.checkpoint import checkpoint_weights, read_checkpoint
from hsakd.utils.config_text import checkpoint_config, find_class, find_type
from hsakd.utils.errors import ConfigError, DataError
from hsakd.utils.third_party import import_mmdet, import_quietly

from .classifier import build_network, copy_config, dataset_meta, load_exactly, scoped_name
from .inference import Prediction, enlargement
from .running import is_detection

if TYPE_CHECKING:  # mmdet is imported when a detector is met, since classifiers do without
    from mmdet.models import BaseDetector
    from mmdet.visualization import DetLocalVisualizer

#: Parts of mmdet that are registered and yet load other files, or evaluate text of the config.
_UNSAFE_MODULES = (
    'mmdet.datasets.transforms.text_transformers',
    'mmdet.models.dense_heads.atss_vlfusion_head',
    'mmdet.models.detectors.kd_one_stage',
    'mmdet.models.detectors.lad',
    'mmdet.models.language_models',
    'mmdet.models.task_modules.tracking',
)


@dataclass(frozen=True)
class Detections(Prediction):
    """What was found in one image, best first; of each its class, score and box.

    A box is x1, y1, x2, y2 in pixels of the image.
    """

    boxes: list[tuple[float, float, float, float]]


def holds_detector(path: str | Path, key: str = 'checkpoint') -> bool:
    """Whether a checkpoint is a detector's, by the config in it.

    Args:
        path: A checkpoint of tools/train.py, or a published student.
        key: The option that named it, for messages.

    Raises:
        CheckpointError: The file is missing or broken, or has no config.
    """
    return is_detection(checkpoint_config(read_checkpoint(path, key), path, key))


def load_detector(path: str | Path, key: str = 'checkpoint') -> BaseDetector:
    """The detector of a checkpoint, as mmdet's ``init_detector`` gives it.

    What the config names is built only where it is registered, and no other weights are loaded.
    Its ``cfg``, of model and test pipeline without annotations, is one of mmdet's own for
    ``mmdet.apis.inference_detector`` and ``DetInferencer``.

    Args:
        path: A checkpoint of tools/train.py, or a published detector.
        key: The option that named it, for messages.

    Raises:
        CheckpointError: The file is missing or broken, or does not fit its config.
        ConfigError: The config describes no detector, or mmdet is not installed.
    """
    checkpoint, where = read_checkpoint(path, key), f'{key}={str(path)!r}'
    config = checkpoint_config(checkpoint, path, key)
    scope = config.get('default_scope')
    ConfigError.check(
        is_detection(config), where, "a detector, with default_scope='mmdet'", repr(scope)
    )
    import_mmdet()
    import_quietly('mmdet.apis')
    from mmdet.models import BaseDetector

    imports: set[str] = set()
    visit = partial(_check, (MODELS, TASK_UTILS), imports)
    model = copy_config(config.get('model'), 'model', scope, visit)
    pipeline = _test_pipeline(config, imports)
    with DefaultScope.overwrite_default_scope(scope):
        detector = build_network(model)
    ConfigError.check(
        isinstance(detector, BaseDetector), 'model.type', "one of mmdet's detectors", model.type
    )
    load_exactly(detector, checkpoint_weights(checkpoint), where)
    detector.dataset_meta = dataset_meta(checkpoint, where, config, num_classes(detector))
    dataset = dict(type='mmdet.CocoDataset', metainfo=detector.dataset_meta, pipeline=pipeline)
    visualizer = dict(type='mmdet.DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
    detector.cfg = Config(
        dict(
            default_scope='mmdet',
            model=model,
            test_dataloader=dict(dataset=dataset),
            visualizer=dict(visualizer, name='visualizer'),
        )
    )
    if imports:
        detector.cfg.custom_imports = dict(imports=sorted(imports), allow_failed_imports=False)
    return detector.eval()


def detect(
    detector: BaseDetector,
    images: Sequence[Path],
    score_thr: float = 0.3,
    topk: int | None = None,
    pictures: Mapping[Path, Path] | None = None,
) -> Iterator[Detections]:
    """Find objects in images of any size, each through the test pipeline of the detector's config.

    Args:
        detector: As :func:`load_detector` gives it, on any device.
        images: Files.
        score_thr: Only what has a higher score is told.
        topk: At most so many of each image; all by default.
        pictures: Files (.png) to draw each image and what is in it to. Folders are made, and
            earlier pictures replaced.

    Yields:
        The detections of one image, in order.

    Raises:
        DataError: An image cannot be decoded or resized, or a picture cannot be written.
    """
    from mmdet.apis import inference_detector
    from mmdet.visualization import DetLocalVisualizer

    visualizer = DetLocalVisualizer()
    names = detector.dataset_meta.get('classes')
    for path in images:
        image = read_image(path)
        try:
            with DefaultScope.overwrite_default_scope('mmdet'):
                found = inference_detector(detector, image).pred_instances.cpu()
        except cv2.error as error:
            height, width = image.shape[:2]
            raise DataError.expected(
                str(path),
                'an image wide and high enough for the test pipeline of the detector',
                f'{width}x{height} pixels; leave it out',
            ) from error
        found = found[found.scores > score_thr]
        found = found[found.scores.argsort(descending=True)[:topk]]
        labels = found.labels.tolist()
        classes = [names[label] if names else str(label) for label in labels]
        if pictures is not None:
            _draw(visualizer, image, found, classes, pictures[path])
        boxes = [tuple(box) for box in found.bboxes.tolist()]
        yield Detections(path, classes, found.scores.tolist(), boxes)


def _check(
    registries: Sequence[Registry], imports: set[str], name: str, key: str, scope: str
) -> str:
    """Check that one of the registries knows a type and that its class is safe to build.

    The type gets its scope, and ``imports`` the module of one that mmdet alone does not know.
    """
    from mmcv import ops

    # NMS and RoIAlign are not registered: mmdet takes the latter from this module by name, and
    # mmcv evaluates the name of the former as Python.
    if MODELS in registries and name in ops.__all__:
        return name
    for registry in registries:
        try:
            found, scope_of = find_type(registry, name, scope, key)
        except ConfigError as error:
            refused = error
            continue
        ConfigError.check(
            not found.__module__.startswith(_UNSAFE_MODULES),
            f'{key}.type',
            'a class that neither loads other files nor evaluates text when it is built',
            repr(name),
        )
        return scoped_name(name, found, scope_of, imports)
    raise refused


def _test_pipeline(config: Config, imports: set[str]) -> list[dict]:
    """The test pipeline after loading, without annotations."""
    from mmdet.utils import get_test_pipeline_cfg

    key, scope = 'test_dataloader.dataset.pipeline', config.default_scope
    try:
        steps = get_test_pipeline_cfg(config)
    except (AttributeError, TypeError, IndexError, RuntimeError) as error:
        expected = 'the pipeline that images are tested with'
        raise ConfigError.expected(key, expected, 'none') from error
    loading = LoadImageFromFile, LoadAnnotations
    # mmdet's ``inference_detector`` replaces the first step by its own loading.
    return [
        dict(type='LoadImageFromFile'),
        *(
            step
            for step in copy_config(steps, key, scope, partial(_check, (TRANSFORMS,), imports))
            if not issubclass(find_class(TRANSFORMS, step.type, scope, key), loading)
        ),
    ]


def num_classes(detector: BaseDetector) -> int:
    """How many classes a detector tells apart.

    Raises:
        ConfigError: It has no head for boxes.
    """
    head = getattr(getattr(detector, 'roi_head', detector), 'bbox_head', None)
    head = head[-1] if isinstance(head, nn.ModuleList) else head  # of a cascade
    ConfigError.check(
        hasattr(head, 'num_classes'),
        'model',
        'a detector that gives boxes, with bbox_head',
        type(detector).__name__,
    )
    return head.num_classes


def _draw(
    visualizer: DetLocalVisualizer,
    image: np.ndarray,
    found: InstanceData,
    classes: list[str],
    file: Path,
) -> None:
    from mmdet.structures import DetDataSample

    enlarged = mmcv.imrescale(image, enlargement(image))
    height, width = enlarged.shape[:2]
    size = torch.tensor([width, height, width, height])
    boxes = found.bboxes * size / torch.tensor(image.shape[1::-1] * 2)
    # The visualizer would shrink the image to show a box that sticks out.
    shown = InstanceData(
        bboxes=boxes.clamp(min=0).minimum(size),
        labels=found.labels,
        scores=found.scores,
        label_names=classes,
    )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', '.*out of bounds')  # text at the border
            visualizer.add_datasample(
                'image',
                enlarged[..., ::-1],
                DetDataSample(pred_instances=shown),
                draw_gt=False,
                pred_score_thr=-1,
                out_file=str(file),
            )
    except OSError as error:
        raise DataError.expected(str(file), 'a file that can be written', error.strerror) from error

"""From a checkpoint of training to a plain mmpretrain classifier."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config, ConfigDict
from mmengine.registry import Registry
from mmpretrain import ImageClassificationInferencer, get_model
from mmpretrain.models import ImageClassifier
from torch import nn

from hsakd.engine.checks import check_trained_images
from hsakd.registry import DATASETS, MODELS, TRANSFORMS
from hsakd.utils.checkpoint import (
    describe_mismatch,
    network_state_dict,
    number_of_classes,
    read_checkpoint,
)
from hsakd.utils.config_text import checkpoint_config, find_class, find_type
from hsakd.utils.errors import CheckpointError, ConfigError, UserError
from hsakd.utils.networks import image_channels, open_heads
from hsakd.utils.normalization import TrainedWith, classifier_normalization, network_config

from .running import load_config

#: Keys of a config that only say where initial weights come from.
_INITIAL_WEIGHTS = ('init_cfg', 'pretrained')


def load_classifier(
    path: str | Path,
    config: str | Config | None = None,
    network: int | None = None,
    key: str = 'checkpoint',
) -> ImageClassifier:
    """The network of a checkpoint as mmpretrain's ``get_model`` gives it, a plain classifier.

    Teacher, branches and joint heads are left out, and its logits are compared with those of the
    network as it was trained. Its data preprocessor normalizes, and the test pipeline in its config
    (``_config``) fits images of any size from files.

    Args:
        path: A checkpoint of tools/train.py (baseline, teacher, offline or online), or a published
            one.
        config: Config (or its file) of the checkpoint; the config inside the checkpoint by default.
        network: Which network of an online distiller; the first by default.
        key: The option that named the checkpoint, for messages.

    Raises:
        CheckpointError: The file is missing or broken, or does not fit its config.
        ConfigError: The config describes no such network.
    """
    checkpoint, where = read_checkpoint(path, key), f'{key}={str(path)!r}'
    if config is None:
        config = checkpoint_config(checkpoint, path, key)
    else:
        config = config if isinstance(config, Config) else load_config(config)
        check_trained_images(TrainedWith.of(checkpoint, where), config)
    trained_config = copy.deepcopy(network_config(config, network))
    state_dict = network_state_dict(checkpoint, path, key, network)
    for head in open_heads(trained_config):
        head['num_classes'] = number_of_classes(state_dict)
    trained = build_network(export_config(MODELS, trained_config, 'model', config, set()))
    load_exactly(trained, state_dict, where)

    channels = image_channels(trained.backbone)
    classifier = get_model(_classifier_config(config, trained_config, channels))
    weights = trained.state_dict()
    classifier.load_state_dict({key: weights[key] for key in classifier.state_dict()})
    images = torch.randn(2, channels, *input_size(classifier))
    with torch.no_grad():
        logits = classifier(images)
        trained_logits = trained.eval().head(trained.extract_feat(images))
    CheckpointError.check(
        torch.allclose(logits, trained_logits, rtol=1e-5, atol=1e-5, equal_nan=True),
        where,
        'a network whose head sees the last feature map, so that it gives the same logits without '
        'its branches',
        f'logits off by {(logits - trained_logits).abs().max():.3g}',
    )
    num_classes = classifier.head.num_classes
    classifier._dataset_meta = dataset_meta(checkpoint, where, config, num_classes)
    return classifier


def load_exactly(model: nn.Module, weights: dict[str, torch.Tensor], where: str) -> None:
    """Load the weights of the checkpoint ``where`` into the model of its config.

    Raises:
        CheckpointError: They do not fit exactly.
    """
    mismatch = describe_mismatch(model.state_dict(), weights)
    kind = type(getattr(model, 'backbone', model)).__name__
    expected = f'the weights of its config, with a {kind}'
    CheckpointError.check(not mismatch, where, expected, mismatch)
    model.load_state_dict(weights)


def input_size(classifier: ImageClassifier) -> tuple[int, int]:
    """Height and width that the test pipeline of a classifier gives."""
    pipeline = ImageClassificationInferencer(classifier).pipeline
    channels = max(3, image_channels(classifier.backbone))  # the pipeline makes gray of color
    image = np.zeros((64, 64, channels), np.uint8)
    packed = pipeline(dict(img=image, img_shape=(64, 64), ori_shape=(64, 64)))
    return tuple(packed['inputs'].shape[1:])


def resizing(classifier: ImageClassifier) -> list[dict]:
    """The steps that fit an image to :func:`input_size`, as the test pipeline says them."""
    pipeline = classifier._config.test_dataloader.dataset.pipeline
    others = ('LoadImageFromFile', 'PackInputs', 'RandomGrayscale')
    return [dict(step) for step in pipeline if step['type'].rpartition('.')[2] not in others]


def class_names(classifier: ImageClassifier) -> list[str]:
    """Names of the classes; numbers where names lack."""
    names = classifier._dataset_meta.get('classes')
    return list(names or map(str, range(classifier.head.num_classes)))


def copy_config(
    value: object, key: str, scope: str, visit: Callable[[object, str, str], object]
) -> object:
    """Copy part of a config, without the files that initial weights come from.

    Args:
        value: What is at ``key`` of the config.
        key: Where it is, for messages.
        scope: Of types without one.
        visit: Takes each ``type``, where it is and its scope, and gives what stands in the copy.
    """
    if isinstance(value, list | tuple):
        copies = (copy_config(v, f'{key}.{i}', scope, visit) for i, v in enumerate(value))
        return type(value)(copies)
    if not isinstance(value, dict):
        return value
    scope = value.get('_scope_', scope)
    copied = {
        name: copy_config(v, f'{key}.{name}', scope, visit)
        for name, v in value.items()
        if name not in _INITIAL_WEIGHTS
    }
    if 'type' in copied:
        copied['type'] = visit(copied['type'], key, scope)
    return ConfigDict(copied)


def export_config(
    registry: Registry, value: object, key: str, config: Config, imports: set[str]
) -> object:
    """Copy part of a config so that it can be built elsewhere: types without a scope get theirs.

    ``imports`` gets the modules that somebody who builds the copy has to import.
    """

    def visit(name: str, key: str, scope: str) -> str:
        return scoped_name(name, *find_type(registry, name, scope, key), imports)

    return copy_config(value, key, _scope(config), visit)


def scoped_name(name: str, found: type, scope: str, imports: set[str]) -> str:
    """A type with its scope, for configs that are built elsewhere; see :func:`export_config`."""
    module = found.__module__
    package = module.split('.')[0]
    if package in ('mmcv', 'mmengine', 'torch'):
        return name
    if package not in ('mmpretrain', 'mmdet'):
        imports.add('hsakd' if package == 'hsakd' else module)
    return name if '.' in name else f'{scope}.{name}'


def build_network(config: dict) -> nn.Module:
    """Build a model; whatever goes wrong is a ConfigError."""
    try:
        return MODELS.build(config)
    except UserError:
        raise
    except Exception as error:  # whatever a constructor makes of wrong arguments
        raise ConfigError.expected('model', 'a network that can be built', error) from error


def _classifier_config(config: Config, network: ConfigDict, channels: int) -> Config:
    """Config of the plain classifier, for ``mmpretrain.get_model`` and its inferencer.

    Args:
        config: Of the training.
        network: Part of it.
        channels: Of the images that the network takes.
    """
    imports: set[str] = set()
    normalization = classifier_normalization(config, network)
    model = dict(
        type='mmpretrain.ImageClassifier',
        **{
            part: export_config(MODELS, network[part], f'model.{part}', config, imports)
            for part in ('backbone', 'neck', 'head')
            if network.get(part)
        },
        data_preprocessor=dict(
            type='mmpretrain.ClsDataPreprocessor',
            mean=list(normalization.mean) or None,
            std=list(normalization.std) or None,
            to_rgb=normalization.rgb,
        ),
    )
    pipeline = _test_pipeline(config, imports)
    if channels == 1 and not any('RandomGrayscale' in step['type'] for step in pipeline):
        # Of the color images that mmpretrain's inferencer loads; exact for gray ones in color.
        gray = dict(type='RandomGrayscale', prob=1.0, channel_weights=(1, 2, 1))
        pipeline.insert(1, gray)
    dataset = dict(type='mmpretrain.CustomDataset', pipeline=pipeline)
    exported = Config(dict(model=model, test_dataloader=dict(dataset=dataset)))
    if imports:
        exported.custom_imports = dict(imports=sorted(imports), allow_failed_imports=False)
    return exported


def _test_pipeline(config: Config, imports: set[str]) -> list[dict]:
    """The test pipeline for files."""
    dataset, key = _test_dataset(config), 'test_dataloader.dataset.pipeline'
    steps = dataset.get('pipeline')
    ConfigError.check(steps is not None, key, 'the pipeline that images are tested with', steps)
    kinds = [find_class(TRANSFORMS, step.type, _scope(config), key) for step in steps]
    kept = [
        s for s, kind in zip(steps, kinds, strict=True) if not issubclass(kind, LoadImageFromFile)
    ]
    pipeline = export_config(TRANSFORMS, kept, key, config, imports)
    if not any('Resize' in step['type'] or 'Crop' in step['type'] for step in pipeline):
        size = getattr(_dataset_class(config), 'image_size', None)
        ConfigError.check(
            size,
            key,
            "a step that resizes, e.g. dict(type='mmpretrain.Resize', scale=(32, 32)), in the "
            'config of the training, or in that which publish_student.py --config takes',
            f'none, and a data set {dataset.get("type")} without image_size',
        )
        # Pillow's bilinear filter averages where an image becomes smaller, OpenCV's does not.
        pipeline[:0] = [
            dict(type='mmpretrain.ResizeEdge', scale=size, backend='pillow'),
            dict(type='mmpretrain.CenterCrop', crop_size=size),
        ]
    # The inferencer replaces the step of this name by its own loading.
    return [dict(type='LoadImageFromFile'), *pipeline]


def dataset_meta(checkpoint: dict, where: str, config: Config, num_classes: int) -> dict:
    """``classes``, of the training data or else of the kind of data set, where they are known."""
    meta = checkpoint.get('meta')
    saved = meta.get('dataset_meta') if isinstance(meta, Mapping) else None
    classes = saved.get('classes') if isinstance(saved, Mapping) else None
    if not isinstance(classes, list | tuple):
        classes = getattr(_dataset_class(config), 'METAINFO', {}).get('classes') or ()
        return dict(classes=list(classes)) if len(classes) == num_classes else {}
    CheckpointError.check(
        len(classes) == num_classes,
        f'{where}: meta.dataset_meta.classes',
        f'{num_classes} names, as many as the head has classes',
        len(classes),
    )
    return dict(classes=[str(name) for name in classes])


def _test_dataset(config: Config) -> dict:
    return (config.get('test_dataloader') or {}).get('dataset') or {}


def _dataset_class(config: Config) -> type:
    kind = _test_dataset(config).get('type')
    return find_class(DATASETS, kind, _scope(config), 'test_dataloader.dataset')


def _scope(config: Config) -> str:
    return config.get('default_scope') or 'hsakd'

"""From a checkpoint of training to a plain mmpretrain classifier."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config, ConfigDict
from mmengine.registry import Registry
from mmpretrain import ImageClassificationInferencer, get_model
from mmpretrain.models import ImageClassifier
from torch import nn

from hsakd.registry import DATASETS, MODELS, TRANSFORMS
from hsakd.utils.checkpoint import describe_mismatch, network_state_dict, read_checkpoint
from hsakd.utils.config_text import checkpoint_config, find_class
from hsakd.utils.errors import CheckpointError, ConfigError, UserError
from hsakd.utils.normalization import classifier_normalization, network_config

from .running import load_config

#: Height and width of the images of data sets that need no resizing in their pipelines.
_IMAGE_SIZES = {'CIFAR10': 32, 'CIFAR100': 32, 'Digits': 8}


def load_classifier(
    path: str | Path,
    config: str | Config | None = None,
    network: int | None = None,
    key: str = 'checkpoint',
) -> ImageClassifier:
    """The network of a checkpoint as mmpretrain's ``get_model`` gives it, a plain classifier.

    Teacher, branches and joint heads are left out, and its logits are compared with those of the
    network as it was trained. Its data preprocessor normalises, and the test pipeline in its config
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
    checkpoint = read_checkpoint(path, key)
    if config is None:
        config = checkpoint_config(checkpoint, path, key)
    elif not isinstance(config, Config):
        config = load_config(config)
    trained_config = network_config(config, network)
    trained = build_network(_Exporter(config)(MODELS, trained_config, 'model'))
    weights = network_state_dict(checkpoint, path, key, network)
    mismatch = describe_mismatch(trained.state_dict(), weights)
    if mismatch:
        raise CheckpointError(
            f'{key}={str(path)!r} does not fit its config, with a '
            f'{type(trained.backbone).__name__}: {mismatch}'
        )
    trained.load_state_dict(weights)
    trained.eval()

    classifier = get_model(_classifier_config(config, trained_config))
    classifier.load_state_dict({key: weights[key] for key in classifier.state_dict()})
    images = torch.randn(2, 3, *input_size(classifier))
    with torch.no_grad():
        logits = classifier(images)
        trained_logits = trained.head(trained.extract_feat(images))
    if not torch.allclose(logits, trained_logits, rtol=1e-5, atol=1e-5, equal_nan=True):
        difference = (logits - trained_logits).abs().max()
        raise CheckpointError(
            f'{key}={str(path)!r}: without its branches the network gives other logits, off '
            f'by {difference:.3g}; accepted are networks whose head sees the last feature map'
        )
    classifier._dataset_meta = dataset_meta(
        checkpoint, f'{key}={str(path)!r}', config, classifier.head.num_classes
    )
    return classifier


def input_size(classifier: ImageClassifier) -> tuple[int, int]:
    """Height and width that the test pipeline of a classifier gives."""
    pipeline = ImageClassificationInferencer(classifier).pipeline
    image = np.zeros((64, 64, 3), np.uint8)
    packed = pipeline(dict(img=image, img_shape=(64, 64), ori_shape=(64, 64)))
    return tuple(packed['inputs'].shape[1:])


class _Exporter:
    """Copies parts of a config so that they can be built elsewhere.

    Types without a scope get theirs; ``init_cfg``, which may name files, is left out; ``imports``
    collects the modules that somebody who builds the copy has to import.
    """

    def __init__(self, config: Config) -> None:
        self.scope = config.get('default_scope') or 'hsakd'
        self.imports: set[str] = set()

    def __call__(self, registry: Registry, value: object, key: str) -> object:
        """Copy ``value``, found at ``key`` of the config, whose types are in ``registry``."""
        if isinstance(value, list | tuple):
            return type(value)(self(registry, v, f'{key}.{i}') for i, v in enumerate(value))
        if not isinstance(value, dict):
            return value
        copied = {k: self(registry, v, f'{key}.{k}') for k, v in value.items() if k != 'init_cfg'}
        if isinstance(copied.get('type'), str):
            copied['type'] = self._type(registry, copied['type'], key)
        return copied

    def _type(self, registry: Registry, name: str, key: str) -> str:
        module = find_class(registry, name, self.scope, key).__module__
        package = module.split('.')[0]
        if package in ('mmcv', 'mmengine', 'torch'):
            return name
        if package != 'mmpretrain':
            self.imports.add('hsakd' if package == 'hsakd' else module)
        return name if '.' in name else f'{self.scope}.{name}'


def build_network(config: dict) -> nn.Module:
    """Build a model; whatever goes wrong is a ConfigError."""
    try:
        return MODELS.build(config)
    except UserError:
        raise
    except Exception as error:  # whatever a constructor makes of wrong arguments
        raise ConfigError(f'the network of the config cannot be built: {error}') from error


def _classifier_config(config: Config, network: ConfigDict) -> Config:
    """Config of the plain classifier, for ``mmpretrain.get_model`` and its inferencer."""
    exporter = _Exporter(config)
    pipeline = _test_pipeline(config, exporter)
    normalisation = classifier_normalization(config, network)
    model = dict(
        type='mmpretrain.ImageClassifier',
        **{
            part: exporter(MODELS, network[part], f'model.{part}')
            for part in ('backbone', 'neck', 'head')
            if network.get(part)
        },
        data_preprocessor=dict(
            type='mmpretrain.ClsDataPreprocessor',
            mean=list(normalisation.mean) or None,
            std=list(normalisation.std) or None,
            to_rgb=normalisation.rgb,
        ),
    )
    dataset = dict(type='mmpretrain.CustomDataset', pipeline=pipeline)
    imports = dict(imports=sorted(exporter.imports), allow_failed_imports=False)
    return Config(
        dict(
            **(dict(custom_imports=imports) if exporter.imports else {}),
            model=model,
            test_dataloader=dict(dataset=dataset),
        )
    )


def _test_pipeline(config: Config, exporter: _Exporter) -> list[dict]:
    """The test pipeline for files."""
    dataset = _test_dataset(config)
    key = 'test_dataloader.dataset.pipeline'
    if 'pipeline' not in dataset:
        raise ConfigError(f'{key} is missing; accepted is the pipeline that images are tested with')
    steps = [
        step
        for step in dataset.pipeline
        if not issubclass(find_class(TRANSFORMS, step.type, exporter.scope, key), LoadImageFromFile)
    ]
    pipeline = exporter(TRANSFORMS, steps, key)
    if not any('Resize' in step['type'] or 'Crop' in step['type'] for step in pipeline):
        name = str(dataset.get('type')).split('.')[-1]
        size = _IMAGE_SIZES.get(name)
        if size is None:
            raise ConfigError(
                f'{key} resizes nothing, and the size of the images of {name} is not known; '
                "accepted is a pipeline with e.g. dict(type='mmpretrain.Resize', scale=(32, 32))"
            )
        # Pillow's bilinear filter averages where an image becomes smaller, OpenCV's does not.
        pipeline[:0] = [
            dict(type='mmpretrain.ResizeEdge', scale=size, backend='pillow'),
            dict(type='mmpretrain.CenterCrop', crop_size=size),
        ]
    # The inferencer replaces the step of this name by its own loading.
    return [dict(type='LoadImageFromFile'), *pipeline]


def dataset_meta(checkpoint: dict, source: str, config: Config, num_classes: int) -> dict:
    """``classes``, of the training data or else of the kind of data set, where they are known."""
    meta = checkpoint.get('meta')
    saved = meta.get('dataset_meta') if isinstance(meta, Mapping) else None
    classes = saved.get('classes') if isinstance(saved, Mapping) else None
    if not isinstance(classes, list | tuple):
        dataset = _test_dataset(config)
        scope = config.get('default_scope') or 'hsakd'
        kind = find_class(DATASETS, dataset.get('type'), scope, 'test_dataloader.dataset')
        classes = getattr(kind, 'METAINFO', {}).get('classes') or ()
        return dict(classes=list(classes)) if len(classes) == num_classes else {}
    if len(classes) != num_classes:
        raise CheckpointError(
            f'{source}: {len(classes)} names of classes (meta.dataset_meta.classes) and a head of '
            f'{num_classes} classes; accepted are as many names as classes'
        )
    return dict(classes=[str(name) for name in classes])


def _test_dataset(config: Config) -> dict:
    return (config.get('test_dataloader') or {}).get('dataset') or {}

"""What a network was trained on: mean, standard deviation and order of channels, and classes."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Self

import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from torch import Tensor

from hsakd.registry import TRANSFORMS

from .checkpoint import checkpoint_weights
from .config_text import checkpoint_meta, find_class, leaf_datasets, parse_config
from .errors import ConfigError
from .foreign_keys import is_resnet
from .networks import network_configs


class Normalization(NamedTuple):
    """How an image with values 0..255 becomes the input of a network.

    Attributes:
        mean: Of each channel in the order that the network gets them; empty for no normalization.
        std: The same.
        rgb: The channels are R, G, B, else B, G, R.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    rgb: bool

    @classmethod
    def from_preprocessor(cls, preprocessor: Mapping, rgb: bool) -> Self:
        """The normalization of a config's ``data_preprocessor``."""
        return cls(_numbers(preprocessor.get('mean')), _numbers(preprocessor.get('std')), rgb)

    def same(self, other: 'Normalization') -> bool:
        """Whether images become the same by both, but for rounding of the numbers."""
        channels = max(len(self.mean), len(other.mean), 1)
        gray = channels == 1 and bool(self.mean)  # of which there is one order
        numbers = (
            pair
            for mine, theirs, none in ((self.mean, other.mean, 0.0), (self.std, other.std, 1.0))
            for pair in zip(_each(mine, none, channels), _each(theirs, none, channels), strict=True)
        )
        return (gray or self.rgb == other.rgb) and all(
            math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-3) for a, b in numbers
        )

    def to(self, other: 'Normalization') -> Callable[[Tensor], Tensor]:
        """What makes images [N, C, H, W] normalized by this one those normalized by another."""

        @functools.cache
        def factors(channels: int, device: torch.device, dtype: torch.dtype) -> Sequence[Tensor]:
            numbers = (
                _each(values, none, channels)
                for each in (self, other)
                for values, none in ((each.mean, 0.0), (each.std, 1.0))
            )
            return [torch.tensor(n, dtype=dtype, device=device).view(-1, 1, 1) for n in numbers]

        def renormalize(images: Tensor) -> Tensor:
            mean, std, others, other_std = factors(images.shape[1], images.device, images.dtype)
            images = images * std + mean
            if self.rgb != other.rgb and images.shape[1] == 3:
                images = images.flip(1)
            return (images - others) / other_std

        return renormalize

    def __str__(self) -> str:
        if not self.mean:
            return f'none, {"RGB" if self.rgb else "BGR"}'
        mean, std = (', '.join(f'{v:.6g}' for v in values) for values in (self.mean, self.std))
        return f'mean ({mean}), std ({std}), {"RGB" if self.rgb else "BGR"}'


IMAGENET = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), True)


def classifier_normalization(config: Config, network: Mapping) -> Normalization:
    """The normalization of a network of a classifier's or a distiller's config.

    Args:
        config: The config.
        network: Part of it, whose own ``data_preprocessor`` counts where there is no other.
    """
    # Before mmpretrain 1.0 it was called img_norm_cfg. A distiller's networks get its images.
    places = (config.model, config, network), ('data_preprocessor', 'img_norm_cfg')
    found = (place.get(name) for name in places[1] for place in places[0])
    preprocessor = next(filter(None, found), {})
    # Files are read as BGR; images of a data set in memory have the network's order already.
    rgb = preprocessor.get('to_rgb', False) or not _reads_files(config)
    return Normalization.from_preprocessor(preprocessor, bool(rgb))


def detector_normalization(preprocessor: Mapping) -> Normalization:
    """The normalization of mmdet's ``DetDataPreprocessor``, which gets images in BGR."""
    return Normalization.from_preprocessor(preprocessor, preprocessor.get('bgr_to_rgb', False))


def is_detector_preprocessor(preprocessor: Mapping | None) -> bool:
    """Whether the ``data_preprocessor`` of a config is mmdet's for detectors."""
    return str((preprocessor or {}).get('type')).split('.')[-1] == 'DetDataPreprocessor'


def checkpoint_normalization(checkpoint: Mapping, network: int | None) -> Normalization | None:
    """The normalization that a checkpoint was trained with; None if it does not tell.

    torchvision's ResNets, which have no config in them, were all trained with :data:`IMAGENET`.
    """
    weights = checkpoint_weights(checkpoint)
    if is_resnet(weights):
        # Backbones without a classifier have the same names and may be anybody's, such as Caffe's.
        return IMAGENET if 'fc.weight' in weights else None
    return recorded_normalization(checkpoint, network)


def recorded_normalization(checkpoint: Mapping, network: int | None) -> Normalization | None:
    """The normalization of the config in a checkpoint; None where it has none."""
    meta = checkpoint_meta(checkpoint)
    try:
        return config_normalization(parse_config(meta.get('cfg') or meta.get('config')), network)
    except (SyntaxError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def config_normalization(config: Config, network: int | None = None) -> Normalization | None:
    """The normalization of a config of any kind of model; None where it cannot be told."""
    try:
        if is_detector_preprocessor(config.model.get('data_preprocessor')):
            return detector_normalization(config.model.data_preprocessor)
        found = classifier_normalization(config, network_config(config, network))
        return found if found.mean else _of_pipeline(config, found.rgb)
    except (ValueError, TypeError, AttributeError, KeyError):
        return None


class TrainedWith(NamedTuple):
    """What a checkpoint says of the data it was trained with.

    Attributes:
        source: What names it, for messages.
        classes: Their names in the order of labels; empty where it does not say.
        normalization: None where nothing is known of it.
        recorded: Whether the checkpoint itself says it, or it is that of others of its kind.
    """

    source: str
    classes: tuple[str, ...]
    normalization: Normalization | None
    recorded: bool

    @classmethod
    def of(cls, checkpoint: Mapping, source: str) -> Self:
        """What the content of a checkpoint says."""
        saved = checkpoint_meta(checkpoint).get('dataset_meta')
        classes = saved.get('classes') if isinstance(saved, Mapping) else None
        classes = classes if isinstance(classes, list | tuple) else ()
        recorded = recorded_normalization(checkpoint, None)
        known = recorded or checkpoint_normalization(checkpoint, None)
        return cls(source, tuple(map(str, classes)), known, recorded is not None)


def network_config(config: Config, index: int | None) -> Mapping:
    """Config of the network that a model predicts with.

    Args:
        config: Of a classifier or distiller.
        index: Which of the networks that learn; the first by default.

    Raises:
        ConfigError: There is none.
    """
    model, wanted = config.get('model'), 'the config of a classifier or distiller'
    ConfigError.check(isinstance(model, dict), 'model', wanted, repr(model))
    networks = list(network_configs(model).values())
    kind, last = model.get('type'), len(networks) - 1
    ConfigError.check((index or 0) in range(last + 1), 'network', f'0..{last} of a {kind}', index)
    network = networks[index or 0]
    ConfigError.check({'backbone', 'head'} <= network.keys(), 'model.type', wanted, repr(kind))
    return network


def _pipeline(config: Config) -> list[Mapping] | None:
    loaders = [config.get(f'{name}_dataloader') for name in ('test', 'val', 'train')]
    datasets = [dataset for each in loaders if each for dataset in leaf_datasets(each['dataset'])]
    return next((dataset['pipeline'] for dataset in datasets if 'pipeline' in dataset), None)


def _of_pipeline(config: Config, rgb: bool) -> Normalization | None:
    """The normalization where the preprocessor has none: a step of the pipeline, or none."""
    preprocessor = config.model.get('data_preprocessor') or config.get('data_preprocessor')
    steps = [step for step in _pipeline(config) or () if 'Normalize' in str(step['type'])]
    if steps and str(steps[-1]['type']).split('.')[-1] == 'Normalize':  # of mmcv
        return Normalization.from_preprocessor(steps[-1], steps[-1].get('to_rgb', True))
    kind = str((preprocessor or {}).get('type', 'DataPreprocessor'))
    plain = preprocessor and not steps and kind.endswith('DataPreprocessor')
    return Normalization((), (), rgb) if plain else None


def _reads_files(config: Config) -> bool:
    scope, pipeline = config.get('default_scope') or 'mmpretrain', _pipeline(config)
    if pipeline is None:  # an older config, or one of weights alone
        return True
    for step in pipeline:
        try:
            kind = find_class(TRANSFORMS, step['type'], scope, 'dataset.pipeline')
        except ConfigError:  # of a package that is not here
            continue
        if issubclass(kind, LoadImageFromFile):
            return True
    return False


def _numbers(values: Sequence[float] | None) -> tuple[float, ...]:
    return tuple(float(value) for value in values or ())


def _each(values: tuple[float, ...], none: float, channels: int) -> tuple[float, ...]:
    """One number a channel, of which there may be one for all, or none."""
    return values if len(values) == channels else (values or (none,)) * channels

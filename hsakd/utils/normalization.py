"""What images a network was trained on: mean, standard deviation and order of the channels."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config

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

    def __str__(self) -> str:
        mean, std = (', '.join(f'{v:.6g}' for v in values) for values in (self.mean, self.std))
        return f'mean ({mean}), std ({std}), {"RGB" if self.rgb else "BGR"}'


IMAGENET = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), True)


def classifier_normalization(config: Config, network: Mapping) -> Normalization:
    """The normalization of a network of a classifier's or a distiller's config.

    Args:
        config: The config.
        network: Part of it; its own ``data_preprocessor`` comes before that of the model.
    """
    # Before mmpretrain 1.0 it was called img_norm_cfg.
    places = (network, config.model, config), ('data_preprocessor', 'img_norm_cfg')
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
    meta = checkpoint_meta(checkpoint)
    try:
        config = parse_config(meta.get('cfg') or meta.get('config'))
        if is_detector_preprocessor(config.model.get('data_preprocessor')):
            return detector_normalization(config.model.data_preprocessor)
        found = classifier_normalization(config, network_config(config, network))
    except (SyntaxError, ValueError, TypeError, AttributeError, ConfigError, RecursionError):
        return None
    return found if found.mean else None  # else it is perhaps a step of the pipeline


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


def _reads_files(config: Config) -> bool:
    scope = config.get('default_scope') or 'mmpretrain'
    loaders = [config.get(f'{name}_dataloader') for name in ('test', 'val', 'train')]
    datasets = [dataset for each in loaders if each for dataset in leaf_datasets(each['dataset'])]
    pipeline = next((dataset['pipeline'] for dataset in datasets if 'pipeline' in dataset), None)
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

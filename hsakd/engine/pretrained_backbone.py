"""``pretrained_backbone``: the config key that says what the backbone of a detector starts from."""

import inspect
import logging
import re
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config
from torch import nn

from hsakd.utils.checkpoint import (
    checkpoint_weights,
    describe_mismatch,
    network_state_dict,
    read_checkpoint,
)
from hsakd.utils.config_text import parse_config
from hsakd.utils.errors import CheckpointError, ConfigError
from hsakd.utils.normalization import (
    Normalization,
    checkpoint_normalization,
    detector_normalization,
    is_detector_preprocessor,
    network_config,
)

KEY = 'pretrained_backbone'
#: The value of the key for training from scratch.
RANDOM = 'random'
# What reading the config of a checkpoint without one of ours raises.
_NO_CONFIG = (
    AttributeError,
    ConfigError,
    KeyError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)
#: Of mmpretrain's transformers and their like, which have a norm for each output: a classifier has
#: the last one alone.
_OUTPUT_NORM = re.compile(r'norm\d+\.(weight|bias)')
_DETECTOR_HEADS = ('rpn_head.', 'roi_head.', 'bbox_head.')
_EXPECTED = (
    'a checkpoint of tools/train.py, a published student, a classifier of mmpretrain or a ResNet '
    f"of torchvision to start from, or '{RANDOM}', as in --cfg-options {KEY}=FILE"
)


def prepare_pretrained_backbone(config: Config) -> tuple[int, str]:
    """Check the key and set up the detector for what it names.

    The detector gets the normalization that the backbone was trained with, where the checkpoint
    tells, and no other initial weights of the backbone.

    Args:
        config: With the key ``pretrained_backbone``. Changed in place.

    Returns:
        A logging level and what to say of the normalization.

    Raises:
        CheckpointError: The file is missing or broken, or of other settings than shapes can tell.
        ConfigError: The value of the key is none of those expected.
    """
    source, preprocessor = config[KEY], config.model.data_preprocessor
    ConfigError.check(isinstance(source, str), KEY, _EXPECTED, repr(source))
    network = config.get('pretrained_network')
    _drop_initial_weights(config)
    if source == RANDOM:
        _check_all_learns(config, network)
        return logging.INFO, f'normalization: {detector_normalization(preprocessor)}'
    is_file = Path(source).expanduser().is_file()
    CheckpointError.check(is_file, KEY, _EXPECTED, f'{source!r}, which is no such file')
    checkpoint = read_checkpoint(source, KEY)
    network_state_dict(checkpoint, source, KEY, network)  # there is one
    _check_style(config.model.backbone, checkpoint, source, network)
    trained = checkpoint_normalization(checkpoint, network)
    return _normalize(preprocessor, trained, f'{KEY}={source!r}')


def prepare_trained_detector(
    config: Config, path: str, key: str, checkpoint: Mapping | None = None
) -> tuple[int, str] | None:
    """Set up a detector for a whole checkpoint, with which ``pretrained_backbone`` has no effect.

    It gets the normalization that the detector of the checkpoint was trained with.

    Args:
        config: Of a detector. Changed in place.
        path: A checkpoint of tools/train.py.
        key: The config key or option that named it, for messages.
        checkpoint: Its content, where it was read already.

    Returns:
        A logging level and what to say of the normalization; None for a model of mmdet's that
        normalizes in another way, such as those of semi-supervised training.

    Raises:
        CheckpointError: The file is missing or broken, or not a detector's.
    """
    checkpoint = checkpoint or read_checkpoint(path, key)
    weights = checkpoint_weights(checkpoint)
    CheckpointError.check(
        KEY not in config or any(name.startswith(_DETECTOR_HEADS) for name in weights),
        f'{key}={str(path)!r}',
        f'a checkpoint of a detector; backbones of classifiers are what {KEY} takes',
        f'no {", ".join(_DETECTOR_HEADS)} in it',
    )
    if not is_detector_preprocessor(config.model.get('data_preprocessor')):
        return None
    if KEY in config:
        _drop_initial_weights(config)
    trained = checkpoint_normalization(checkpoint, None)
    return _normalize(config.model.data_preprocessor, trained, f'{key}={str(path)!r}')


def _normalize(preprocessor: dict, trained: Normalization | None, source: str) -> tuple[int, str]:
    """Set a detector's normalization; the logging level and the text of what to say of it."""
    found = detector_normalization(preprocessor)
    if trained is None:
        return logging.WARNING, (
            f'{source} does not say which normalization it was trained with; see that it is that '
            f'of the config, which is used: {found}'
        )
    preprocessor.pop('rgb_to_bgr', None)
    preprocessor.update(
        mean=list(trained.mean) or None, std=list(trained.std) or None, bgr_to_rgb=trained.rgb
    )
    instead = '' if found == trained else f', instead of that of the config: {found}'
    return logging.INFO, f'normalization: {trained}, as {source} was trained with{instead}'


def _drop_initial_weights(config: Config) -> None:
    """Leave out mmdet's own way to start, by which half a checkpoint may load."""
    for part in (config.model, *_backbone_parts(config).values()):
        part.pop('init_cfg', None)


def _backbone_parts(config: Config) -> dict[str, dict]:
    """The parts of a detector that are stages of a backbone, by key."""
    parts = {'model.backbone': config.model.backbone}
    shared_head = (config.model.get('roi_head') or {}).get('shared_head')
    return parts | ({'model.roi_head.shared_head': shared_head} if shared_head else {})


def _check_all_learns(config: Config, network: int | None) -> None:
    """Check that no random weight or statistic would stay as it is."""
    expected = f"None with {KEY}='{RANDOM}'"
    ConfigError.check(network is None, 'pretrained_network', expected, network)
    needed = []
    for key, part in _backbone_parts(config).items():
        if part.get('frozen_stages', -1) >= 0:
            needed.append(f'{key}.frozen_stages=-1')
        if _setting(part, 'norm_eval'):
            needed.append(f'{key}.norm_eval=False')
        if not (part.get('norm_cfg') or {}).get('requires_grad', True):
            needed.append(f'{key}.norm_cfg.requires_grad=True')
    ConfigError.check(
        not needed,
        f"{KEY}='{RANDOM}'",
        f'{" ".join(needed)}, for all that are compared',
        'a backbone of which parts are frozen, whose random weights would stay as they are',
    )


def _setting(part: Mapping, name: str) -> object:
    """A setting of a part, or the default of its class; None where there is none."""
    from mmdet.registry import MODELS

    if name in part:
        return part[name]
    with MODELS.switch_scope_and_registry('mmdet') as registry:
        found = parameters(registry.get(part['type'])).get(name)
    return found.default if found else None


def parameters(kind: type) -> dict[str, inspect.Parameter]:
    """What a class of layers can be built with, by name, also by those that it inherits from."""
    kinds = reversed(inspect.getmro(kind))
    return {k: v for c in kinds for k, v in inspect.signature(c.__init__).parameters.items()}


def load_pretrained_backbone(model: nn.Module, source: str, network: int | None) -> str:
    """Load the backbone of a classifier into a detector, whole or not at all.

    Branches and heads are left out. Where the last stage of the backbone is the shared head of the
    detector (C4), it goes there.

    Args:
        model: The detector, with a ``backbone``.
        source: The checkpoint.
        network: Which network of an online distiller; the first by default.

    Returns:
        How many weights were matched, which ones were unexpected, and which norms, of outputs that
        a classifier has not, start anew.

    Raises:
        CheckpointError: A weight of the detector's backbone is missing or has another shape, or
            stages of the checkpoint have more layers.
    """
    checkpoint = read_checkpoint(source, KEY)
    weights = {
        name.removeprefix('backbone.'): value
        for name, value in network_state_dict(checkpoint, source, KEY, network).items()
        if name.startswith('backbone.')
    }
    parts = {'backbone': model.backbone}
    if getattr(getattr(model, 'roi_head', None), 'with_shared_head', False):
        parts['roi_head.shared_head'] = model.roi_head.shared_head
    taken: set[str] = set()
    for name, part in parts.items():
        wanted = {
            key: value
            for key, value in part.state_dict().items()
            if key in weights or not _OUTPUT_NORM.fullmatch(key)
        }
        found = {key: weights[key] for key in wanted if key in weights}
        mismatch = describe_mismatch(wanted, found)
        others = _names([key for key in weights if key not in wanted])
        CheckpointError.check(
            not mismatch,
            f'{KEY}={source!r}',
            f'weights of model.{name} of the config, a {type(part).__name__}',
            f'{mismatch}; of the checkpoint, {others} are not in it',
        )
        # A deeper network has all the weights of a shallower one, and more in the same stages.
        stages = {key.split('.')[0] for key in wanted}
        more = [key for key in weights if key not in wanted and key.split('.')[0] in stages]
        CheckpointError.check(
            not more,
            f'{KEY}={source!r}',
            f'a backbone of the depth of model.{name} of the config, a {type(part).__name__}',
            f'a deeper one: {_names(more)} would be left out',
        )
        taken |= found.keys()
    fresh = []
    for part in parts.values():
        own = part.state_dict()
        fresh += [key for key in own if key not in weights]
        part.load_state_dict({key: weights.get(key, value) for key, value in own.items()})
    several = len({n.split('.')[1] for n in checkpoint_weights(checkpoint) if n[:9] == 'networks.'})
    which = f' (network {network or 0} of {several})' if several else ''
    return (
        f'{KEY}={source!r}{which}: {len(taken)} weights matched ({" and ".join(parts)}), 0 '
        f'missing, unexpected: {_names([name for name in weights if name not in taken])}'
        + (f'; norms of outputs that start anew: {_names(fresh)}' if fresh else '')
    )


def _check_style(backbone: Mapping, checkpoint: Mapping, source: str, network: int | None) -> None:
    """Compare where the bottlenecks of ResNets stride, which no shape of a weight tells."""
    if backbone.get('depth') is None or 'ResNe' not in backbone.type or backbone.depth < 50:
        return
    try:
        config = parse_config(checkpoint['meta']['cfg'])
        of_detector = 'backbone' in config.model and 'head' not in config.model
        trained = (config.model if of_detector else network_config(config, network))['backbone']
    except _NO_CONFIG:  # as in torchvision's
        trained = {}
    styles = trained.get('style', 'pytorch'), backbone.get('style', 'pytorch')
    CheckpointError.check(
        styles[0] == styles[1],
        'model.backbone.style (and that of model.roi_head.shared_head)',
        f'{styles[0]!r}, as the bottlenecks of {KEY}={source!r} stride',
        repr(styles[1]),
    )


def _names(names: list[str]) -> str:
    if not names:
        return 'none'
    return f'{len(names)} ({", ".join(names[:3])}{", ..." if len(names) > 3 else ""})'

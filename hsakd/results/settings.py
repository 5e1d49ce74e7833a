"""What of a config can change the outcome of its training."""

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from mmengine.config import Config

from hsakd.utils.errors import ConfigError

from .names import ConfigName, find_configs, without_hash

#: Keys of a config that change where and how a run works and not what it computes. (in_memory draws
#: other random numbers of the same distributions; of a launcher the number of processes counts.)
RUNTIME_KEYS = (
    '_scope_ collate_fn default_hooks default_scope env_cfg in_memory launcher log_level '
    'log_processor num_workers persistent_workers pin_memory prefetch_factor resume runner_type '
    'skip_bad_images test_cfg test_dataloader test_evaluator timeout val_begin val_interval '
    'visualizer work_dir'
).split()
#: Data sets that are the same images wherever they lie; others, and those in the layout of one of
#: these but with classes of their own, are told apart by their data_root.
_NAMED_DATA_SETS = 'CIFAR10 CIFAR100 CocoDataset ImageNet STL10 TinyImageNet VOCDataset'.split()
#: What follows from pretrained_backbone, see hsakd.engine.pretrained_backbone.
_OF_PRETRAINED_BACKBONE = (
    r'model\.(backbone|roi_head\.shared_head)\.init_cfg\b|'
    r'model\.data_preprocessor\.(mean|std|bgr_to_rgb|rgb_to_bgr)$'
)
#: Hooks and metrics that watch a run and leave it as it is.
_WATCHERS = (
    'BranchAccuracy FewShotRecordHook MissedValidationHook NetworkAccuracy NonFiniteLossHook '
    'PreemptionHook ProgressHook RunRecordHook SetupCheckHook'
).split()


def comparable_settings(config: Mapping, follow: bool = True) -> dict[str, object]:
    """A config flat, as in ``{'optim_wrapper.optimizer.lr': 0.05}``, without what is no setting.

    Left out are the seed, keys of how and where a run works (workers, folders, logging, when it is
    validated), tests, and hooks and metrics that only watch. Of a checkpoint only
    :func:`checkpoint_origin` is kept, since each seed may have its own, and folders of images only
    of data sets without a name.

    Args:
        config: As a dictionary.
        follow: As of :func:`checkpoint_origin`.
    """
    if config.get('resume'):
        config = {key: value for key, value in config.items() if key != 'load_from'}
    settings = dict(_flatten(config, '', follow))
    settings.pop('randomness.seed', None)
    if 'pretrained_backbone' in config:  # it decides these
        settings = {k: v for k, v in settings.items() if not re.match(_OF_PRETRAINED_BACKBONE, k)}
    settings = {k: v for k, v in settings.items() if v is not None and v is not False and v != []}
    return json.loads(json.dumps(settings, default=str))  # tuples are lists in a file


@cache
def shipped_settings(name: str) -> dict[str, object] | None:
    """The settings of the config file of a name in ``configs/``; None if there is none.

    Its checkpoints are meant as trained by their own config files.
    """
    files = find_configs(name)
    return comparable_settings(Config.fromfile(files[0]).to_dict(), False) if files else None


def changed_settings(own: Mapping[str, object], other: Mapping[str, object]) -> dict[str, object]:
    """Settings in which the first differ from the second; None is one that they lack.

    A number of classes that only one of them has is that of the data, which the other leaves open.
    """
    return {
        key: own.get(key)
        for key in sorted({*own, *other})
        if (key in own, own.get(key)) != (key in other, other.get(key))
        and not (key.endswith('head.num_classes') and (key in own) != (key in other))
    }


def settings_text(settings: Mapping[str, object]) -> str:
    """Settings as text: 'train_cfg.max_epochs=12, param_scheduler.milestones=[7,9,11]'."""
    return ', '.join(
        f'{key}={json.dumps(value, separators=(",", ":")) if isinstance(value, list) else value}'
        for key, value in settings.items()
    )


def checkpoint_origin(path: str, follow: bool = True) -> str:
    """Which experiment and stage of training a checkpoint is from, as far as its place tells.

    As in 'CONFIG/epoch_240'. The experiment is that of the ``run.json`` beside it, else a config's
    name in its path, else the folder without the number of a seed. A published file has no stage.
    Behind stands in brackets how the training differs, by its ``run.json``, from the config file of
    that name.

    Args:
        path: Of the checkpoint.
        follow: Read the ``run.json`` beside it.
    """
    from .runs import Run

    file = Path(path)
    if '://' in path or not file.stem:
        return path
    run = Run.of(file.parent) if follow else None
    if run and run.name:
        return f'{run.name}/{_stage(file)}{_training_changes(run.name, run.settings)}'
    for part in reversed(file.parts):
        name = ConfigName.parse(part)
        if name:
            return str(name) if part == file.name else f'{name}/{_stage(file)}'
    if without_hash(file.stem) != file.stem:  # the hash says which file it is
        return file.stem
    return '/'.join([*map(_without_seed, file.parts[-2:-1]), _stage(file)])


def names_checkpoint(key: str) -> bool:
    """Whether a key of a config names a checkpoint."""
    last = key.rsplit('.')[-1]
    return last.endswith('_ckpt') or last in ('checkpoint', 'load_from', 'pretrained_backbone')


def named_checkpoints(value: object, key: str = '') -> Iterator[tuple[str, str]]:
    """Keys and paths of the checkpoints that a config, or a part of it, names at any depth.

    Raises:
        ConfigError: One is no path.
    """
    if names_checkpoint(key) and value is not None and not isinstance(value, Mapping):
        ConfigError.check(isinstance(value, str), key, 'the path of a checkpoint', repr(value))
        yield key, value
    elif isinstance(value, Mapping | list | tuple):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, item in items:
            yield from named_checkpoints(item, f'{key}.{name}' if key else str(name))


def _stage(file: Path) -> str:
    """As in 'epoch_240', 'iter_300' or 'best_accuracy_top1', which each seed has at another epoch.

    Of other files it is the name.
    """
    found = re.search(r'(?:epoch|iter)_\d+$', file.stem)
    if file.stem.startswith('best_'):
        return re.sub(r'_(?:epoch|iter)_\d+$', '', file.stem)
    return found[0] if found else _without_seed(without_hash(file.stem))


def _without_seed(name: str) -> str:
    return '#' if name.isdigit() else re.sub(r'(?i)(seed\D?)\d+', r'\1#', name)


def _training_changes(name: str, settings: Mapping[str, object]) -> str:
    """As in ' (train_cfg.max_epochs=12)'; of a config that is not known, a checksum of all."""
    shipped = shipped_settings(name)
    if shipped is None:
        return f' (settings {zlib.crc32(json.dumps(settings, sort_keys=True).encode()):08x})'
    changes = changed_settings(settings, shipped)
    return f' ({settings_text(changes)})' if changes else ''


def _flatten(value: object, key: str, follow: bool) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        wrapped = value
        while isinstance(wrapped.get('dataset'), Mapping):  # FewShotSubset hands its own down
            wrapped = wrapped['dataset']
        kind = _type_name(wrapped)
        named = kind in _NAMED_DATA_SETS and 'classes' not in (wrapped.get('metainfo') or {})
        for name, item in value.items():
            if name == 'data_root' and (not kind or named):
                continue
            if name not in RUNTIME_KEYS:
                yield from _flatten(item, f'{key}.{name}' if key else str(name), follow)
    elif isinstance(value, list | tuple):
        if any(isinstance(item, Mapping) for item in value):
            kept = [i for i in value if not (isinstance(i, Mapping) and _type_name(i) in _WATCHERS)]
            for index, item in enumerate(kept):
                yield from _flatten(item, f'{key}.{index}', follow)
        else:
            yield key, list(value)
    elif isinstance(value, str) and value != 'random' and names_checkpoint(key):
        yield key, checkpoint_origin(value, follow)
    else:
        yield key, value


def _type_name(config: Mapping) -> str:
    """Its type without the prefix of a scope; empty if it has none."""
    return str(config.get('type', '')).rsplit('.')[-1]

"""Runs as mmengine leaves them on disk."""

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from mmengine.config import Config

from hsakd.engine.pretrained_backbone import KEY, RANDOM
from hsakd.utils.config_text import parse_config
from hsakd.utils.errors import ConfigError, DataError

from .comparison import read_scalars

#: Config files that runs, and the teachers of runs, are compared with.
_CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
#: Keys of a config that change where and how a run works and not what it computes.
_RUNTIME_KEYS = {
    'collate_fn',
    'default_hooks',
    'default_scope',
    'env_cfg',
    'in_memory',  # other random numbers, of the same distributions
    'launcher',  # the number of processes is compared instead
    'log_level',
    'log_processor',
    'num_workers',
    'persistent_workers',
    'pin_memory',
    'prefetch_factor',
    'resume',
    'skip_bad_images',
    'test_cfg',
    'test_dataloader',
    'test_evaluator',
    'timeout',
    'visualizer',
    'work_dir',
}
#: Data sets that are the same images wherever they lie; others, and those in the layout of one of
#: these but with classes of their own, are told apart by their data_root.
_NAMED_DATA_SETS = {
    'CIFAR10',
    'CIFAR100',
    'CocoDataset',
    'ImageNet',
    'STL10',
    'TinyImageNet',
    'VOCDataset',
}
#: What follows from pretrained_backbone, see hsakd.engine.pretrained_backbone.
_OF_PRETRAINED_BACKBONE = (
    r'model\.(backbone|roi_head\.shared_head)\.init_cfg\b|'
    r'model\.data_preprocessor\.(mean|std|bgr_to_rgb|rgb_to_bgr)$'
)
#: How names of published files end.
_PUBLISHED = r'-[0-9a-f]{8}$'
#: Hooks and metrics that watch a run and leave it as it is.
_WATCHERS = {
    'BranchAccuracy',
    'FewShotRecordHook',
    'MissedValidationHook',
    'NetworkAccuracy',
    'NonFiniteLossHook',
    'PreemptionHook',
    'ProgressHook',
    'SetupCheckHook',
}


@dataclass
class LoggedRun:
    """One training, from its logs.

    Attributes:
        name: Of its config.
        folder: The work dir.
        started: Name of the folder of its last session, which is the time.
        config: The config that the last session ran with.
        records: Those of mmengine's ``scalars.json``, of all sessions in the order of training;
            those of training, and not those of validation, have ``iter``.
        processes: How many processes (GPUs) trained; None where the log does not say.
        earlier: Settings that earlier sessions, before it was resumed, had otherwise.
    """

    name: str
    folder: Path
    started: str
    config: dict
    records: list[dict[str, float]]
    processes: int | None = None
    earlier: dict[str, object] = field(default_factory=dict)

    @property
    def seed(self) -> int | None:
        """``randomness.seed``; None if mmengine drew one."""
        return (self.config.get('randomness') or {}).get('seed')

    @property
    def unit(self) -> str:
        """What the schedule counts: 'epoch' or 'iteration'."""
        return 'epoch' if 'max_epochs' in self.config['train_cfg'] else 'iteration'

    @property
    def length(self) -> int:
        """Epochs or iterations of the whole schedule."""
        return self.config['train_cfg']['max_epochs' if self.unit == 'epoch' else 'max_iters']

    @property
    def validated(self) -> int:
        """The last epoch or iteration after which it was validated; 0 if none."""
        return max((at for at, record in self._positions() if 'iter' not in record), default=0)

    @property
    def finished(self) -> bool:
        """It was validated at the end of its schedule."""
        return self.validated >= self.length

    @property
    def progress(self) -> str:
        """As in '12 / 240 epochs'."""
        if self.validated:
            return f'{self.validated} / {self.length} {self.unit}s'
        trained = max(at for at, _ in self._positions())
        return f'never validated, in {self.unit} {trained} of {self.length}'

    @property
    def keys(self) -> set[str]:
        """All that was recorded."""
        return {key for record in self.records for key in record}

    def curve(self, key: str) -> dict[int, float]:
        """Means of ``key`` by epoch, or its values by iteration; average precision in percent."""
        # mmdet logs it as a fraction, where mmpretrain's accuracies are percent.
        scale = 100 if re.search(r'/\w*AP(\d+|_\w+)?$', key) else 1
        values: dict[int, list[float]] = {}
        for at, record in self._positions():
            if key in record:
                values.setdefault(at, []).append(scale * record[key])
        return {at: float(np.mean(values[at])) for at in sorted(values)}

    def final(self, key: str) -> float | None:
        """``key`` of the last validation of a finished run; None if it was not measured there."""
        return self.curve(key).get(self.validated) if self.finished else None

    @cached_property
    def settings(self) -> dict[str, object]:
        """What can change the outcome, beside the seed: see :func:`comparable_settings`."""
        return _run_settings(self, frozenset())

    @property
    def frozen_teacher(self) -> bool:
        """Its teacher is one with a frozen backbone, trained to the end as its config says."""
        teacher = str(self.settings.get('model.teacher_ckpt'))
        return bool(
            re.fullmatch(r'hsakd-teacher-frozen_[\w.-]+_\d+xb\d+-(\d+)e_[\w-]+/epoch_\1', teacher)
        )

    def _positions(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Records with their epoch or iteration, in which the schedule counts."""
        iteration = 0
        for record in self.records:
            iteration = record.get('iter', iteration)
            if self.unit == 'epoch':
                yield record.get('epoch', record['step']), record
            else:  # mmengine's LoggerHook may count validations by epoch here too
                yield max(record['step'], iteration), record


@dataclass
class LeftOut:
    """A training whose figures are no result.

    Attributes:
        name: Of its config; empty if it is not known.
        folder: The work dir.
        reason: Why.
        seed: Of its config.
    """

    name: str
    folder: Path
    reason: str
    seed: int | None = None

    def __str__(self) -> str:
        name = f'{self.name}, ' if self.name else ''
        seed = f'seed {self.seed}, ' if self.seed is not None else ''
        return f'{name}{seed}{shown_path(self.folder)}: {self.reason}'


def shown_path(path: Path) -> str:
    """A path as short as it can be from the current folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def find_runs(folders: Iterable[str | Path]) -> tuple[list[LoggedRun], list[LeftOut]]:
    """All trainings in folders, each a work dir or a folder with work dirs at any depth.

    Sessions that resume an earlier one of the same work dir are one run with it. A session that
    starts anew, say with another seed, is another run.

    Raises:
        DataError: There is no folder, no run in one, or a file of a run is broken.
    """
    runs, left_out, seen = [], [], set()
    for given in folders:
        folder = Path(given).absolute()
        if not folder.is_dir():
            raise DataError(f'{str(given)!r}: no such folder; accepted are work dirs of training')
        work_dirs = {file.parents[2] for file in folder.rglob('vis_data/config.py')}
        if not work_dirs:
            raise DataError(
                f'{str(given)!r}: no run in it; looked for TIME/vis_data/config.py and '
                'TIME/vis_data/scalars.json at any depth, as tools/train.py writes them into its '
                'work dir'
            )
        for work_dir in sorted(work_dirs):
            if work_dir.resolve() in seen:
                continue
            seen.add(work_dir.resolve())
            found = _runs_of(work_dir)
            if isinstance(found, LeftOut):
                left_out.append(found)
            else:
                runs += found
    return runs, left_out


def comparable_settings(
    config: Mapping, followed: frozenset[Path] | None = frozenset()
) -> dict[str, object]:
    """A config flat, as in ``{'optim_wrapper.optimizer.lr': 0.05}``, without what is no setting.

    Left out are the seed, keys of how and where a run works (workers, folders, logging), tests,
    and hooks and metrics that only watch. Of a checkpoint only :func:`checkpoint_origin` is kept,
    since each seed may have its own, and folders of images only of data sets without a name.

    Args:
        config: As a dictionary.
        followed: As of :func:`checkpoint_origin`.
    """
    if config.get('resume'):
        config = {key: value for key, value in config.items() if key != 'load_from'}
    settings = dict(_flatten(config, '', followed))
    settings.pop('randomness.seed', None)
    if 'pretrained_backbone' in config:  # it decides these
        settings = {k: v for k, v in settings.items() if not re.match(_OF_PRETRAINED_BACKBONE, k)}
    return {k: v for k, v in settings.items() if v is not None and v is not False}


def shipped_settings(names: Iterable[str]) -> dict[str, dict[str, object]]:
    """Settings of config files by name, of those that are in ``configs/``."""
    found = {name: _shipped_settings(name) for name in names}
    return {name: settings for name, settings in found.items() if settings is not None}


def changed_settings(own: Mapping[str, object], other: Mapping[str, object]) -> dict[str, object]:
    """Settings in which the first differ from the second; None is one that they lack."""
    return {
        key: own.get(key)
        for key in sorted({*own, *other})
        if (key in own, own.get(key)) != (key in other, other.get(key))
    }


def settings_text(settings: Mapping[str, object]) -> str:
    """As in 'train_cfg.max_epochs=12, param_scheduler.milestones=[7,9,11]'."""
    return ', '.join(
        f'{key}={json.dumps(value, separators=(",", ":")) if isinstance(value, list) else value}'
        for key, value in settings.items()
    )


def checkpoint_origin(path: str, followed: frozenset[Path] | None = frozenset()) -> str:
    """Which experiment and stage of training a checkpoint is from, as far as its place tells.

    As in 'CONFIG/epoch_240'. The experiment is the config beside it, else a config's name in its
    path, else the folder without the number of a seed. A published file has no stage. Behind stands
    in brackets how its training, where the logs of it lie beside it, differs from the config file
    of that name.

    Args:
        path: Of the checkpoint.
        followed: Work dirs whose logs are not looked at, since they led here; None for all.
    """
    file = Path(path)
    if '://' in path or not file.stem:
        return path
    beside = [] if followed is None else _config_names(file.parent)
    if len(beside) == 1:
        return f'{beside[0]}/{_stage(file)}{_training_changes(file.parent.resolve(), followed)}'
    if followed is not None and file.with_suffix('.py').is_file():  # as of a published student
        return re.sub(_PUBLISHED, '', file.stem)
    for part in reversed(file.parts):
        name = re.match(r'[\w.-]+_\d+xb\d+-\d+[ei]_[A-Za-z0-9-]+', part)
        if name:
            experiment = re.sub(_PUBLISHED, '', name[0])
            return experiment if part == file.name else f'{experiment}/{_stage(file)}'
    if re.search(_PUBLISHED, file.stem):  # the hash says which file it is
        return file.stem
    return '/'.join([*map(_without_seed, file.parts[-2:-1]), _stage(file)])


def _stage(file: Path) -> str:
    """As in 'epoch_240', 'iter_300' or 'best_accuracy_top1', which each seed has at another epoch.

    Of other files it is the name.
    """
    found = re.search(r'(?:epoch|iter)_\d+$', file.stem)
    if file.stem.startswith('best_'):
        return re.sub(r'_(?:epoch|iter)_\d+$', '', file.stem)
    return found[0] if found else _without_seed(re.sub(_PUBLISHED, '', file.stem))


def _without_seed(name: str) -> str:
    return '#' if name.isdigit() else re.sub(r'(?i)(seed\D?)\d+', r'\1#', name)


def _training_changes(work_dir: Path, followed: frozenset[Path]) -> str:
    """How the newest training in a work dir differs from the config file of its name.

    As in ' (train_cfg.max_epochs=12)'; of a config that is not known, a checksum of all settings.
    """
    runs = [] if work_dir in followed else _runs_of(work_dir)
    if isinstance(runs, LeftOut) or not runs:
        return ''
    settings = _run_settings(runs[-1], followed)
    shipped = _shipped_settings(runs[-1].name)
    if shipped is None:
        text = json.dumps(settings, sort_keys=True, default=str)
        return f' (settings {zlib.crc32(text.encode()):08x})'
    changes = changed_settings(settings, shipped)
    return f' ({settings_text(changes)})' if changes else ''


def _run_settings(run: LoggedRun, followed: frozenset[Path]) -> dict[str, object]:
    settings = comparable_settings(run.config, followed | {run.folder.resolve()}) | run.earlier
    meant = re.search(r'_(\d+)xb\d+', run.name)
    if meant and run.processes and run.processes != int(meant[1]):
        settings['GPUs'] = run.processes
    return settings


@cache
def _shipped_settings(name: str) -> dict[str, object] | None:
    """Those of the config file; its checkpoints are meant as trained by their own config files."""
    files = [file for file in _CONFIGS.rglob('*_*.py') if '_base_' not in file.parts]
    found = next((file for file in files if file.stem == name), None)
    return found and comparable_settings(Config.fromfile(found).to_dict(), followed=None)


def _flatten(
    value: object, key: str, followed: frozenset[Path] | None
) -> Iterator[tuple[str, object]]:
    last = key.rsplit('.')[-1]
    if isinstance(value, Mapping):
        wrapped = value
        while isinstance(wrapped.get('dataset'), Mapping):  # FewShotSubset hands its own down
            wrapped = wrapped['dataset']
        kind = _type_name(wrapped)
        named = kind in _NAMED_DATA_SETS and 'classes' not in (wrapped.get('metainfo') or {})
        for name, item in value.items():
            if name == 'data_root' and (not kind or named):
                continue
            if name not in _RUNTIME_KEYS:
                yield from _flatten(item, f'{key}.{name}' if key else str(name), followed)
    elif isinstance(value, list | tuple):
        if any(isinstance(item, Mapping) for item in value):
            kept = [i for i in value if not (isinstance(i, Mapping) and _type_name(i) in _WATCHERS)]
            for index, item in enumerate(kept):
                yield from _flatten(item, f'{key}.{index}', followed)
        else:
            yield key, list(value)
    elif isinstance(value, str) and value != RANDOM and _names_checkpoint(last):
        yield key, checkpoint_origin(value, followed)
    else:
        yield key, value


def _type_name(config: Mapping) -> str:
    """Its type without the prefix of a scope; empty if it has none."""
    return str(config.get('type', '')).rsplit('.')[-1]


def _names_checkpoint(key: str) -> bool:
    return key.endswith('_ckpt') or key in ('checkpoint', 'load_from', KEY)


def _config_names(folder: Path) -> list[str]:
    """Names of the configs in a folder, but for those of published students."""
    names = sorted(file.stem for file in folder.glob('*.py'))
    return [name for name in names if not re.search(_PUBLISHED, name)]


def _runs_of(work_dir: Path) -> list[LoggedRun] | LeftOut:
    """The runs of one work dir, oldest first, or why there is none."""
    names = _config_names(work_dir)
    if len(names) != 1:
        found = f'{len(names)} configs ({", ".join(names)})' if names else 'no config'
        return LeftOut('', work_dir, f'{found} in the work dir, so that its name is not known')
    runs: list[LoggedRun] = []
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):  # tests write none
        records = read_scalars(file)
        config = _read_config(file.with_name('config.py'))
        if not records:
            continue
        session = file.parents[1]
        run = LoggedRun(names[0], work_dir, session.name, config, records, _processes(session))
        if config.get('resume') and runs:
            _continue(runs.pop(), run)
        runs.append(run)
    return runs or LeftOut(names[0], work_dir, 'nothing was logged')


def _read_config(path: Path) -> dict:
    try:
        config = parse_config(path.read_text()).to_dict()
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f'{str(path)!r}: {error}; accepted is the config that mmengine writes there'
        ) from error
    train_cfg = config.get('train_cfg') or {}
    if not ('max_epochs' in train_cfg or 'max_iters' in train_cfg):
        raise ConfigError(
            f'{str(path)!r}: train_cfg={dict(train_cfg)}; accepted is one with max_epochs or '
            'max_iters'
        )
    return config


def _continue(earlier: LoggedRun, later: LoggedRun) -> None:
    """Give a run the records of the one that it resumed, without those of what it trained again."""
    resumed = next((record['iter'] for record in later.records if 'iter' in record), None)
    kept = []
    for record in earlier.records:
        if resumed is not None and record.get('iter', 0) >= resumed:
            break
        kept.append(record)
    if kept:
        later.records = kept + later.records
        old, new = (comparable_settings(run.config, followed=None) for run in (earlier, later))
        later.earlier = earlier.earlier | {
            f'{key} (before it was resumed)': value
            for key, value in changed_settings(old, new).items()
        }


def _processes(session: Path) -> int | None:
    log = session / f'{session.name}.log'
    if not log.is_file():
        return None
    found = re.search(r'^ *GPU number: (\d+)', log.read_text(errors='replace'), re.M)
    return int(found[1]) if found else None

"""From a config file to a runner, with errors that say which key is at fault."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.device import is_cuda_available, is_musa_available, is_npu_available

from hsakd.engine.building import building, check_keys, in_one_line
from hsakd.engine.checkpoint_files import POINTER, STARTING, claim, last_whole_checkpoint
from hsakd.engine.checks import check_fast
from hsakd.engine.distributed import restarted
from hsakd.engine.loading import load_for_test as load_for_test
from hsakd.engine.pretrained_backbone import (
    KEY,
    prepare_pretrained_backbone,
    prepare_trained_detector,
)
from hsakd.engine.runner import DistillationRunner, TestingRunner
from hsakd.results.names import near_configs
from hsakd.utils.checkpoint import checkpoint_meta, read_checkpoint
from hsakd.utils.config_text import leaf_datasets
from hsakd.utils.errors import CheckpointError, ConfigError, UserError
from hsakd.utils.third_party import import_mmdet

_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
#: What each launcher sets in the environment of its processes.
_LAUNCHED_BY = {'pytorch': 'RANK', 'slurm': 'SLURM_PROCID', 'mpi': 'OMPI_COMM_WORLD_RANK'}
#: Seconds without a batch after which a loader with workers is taken for stuck.
LOADER_TIMEOUT = 600
#: Data sets that take ``skip_bad_images``.
_OF_FILES = ('ImageFolder', 'ImageNet', 'TinyImageNet', 'VOCDataset', 'CocoDataset')


def load_config(path: str, options: dict | None = None) -> Config:
    """Read a config file and apply ``--cfg-options``.

    Raises:
        ConfigError: The file is missing or no config, or an option does not fit it.
    """
    where = f'config {path!r}'
    if not Path(path).is_file():
        near = ', '.join(near_configs(path))
        found = f'no such file; near it: {near}' if near else 'no such file'
        raise ConfigError.expected(where, 'one of configs/ or your own', found)
    try:
        config = Config.fromfile(path)
    except UserError:
        raise
    except Exception as error:  # a config is a program, and can fail in any way
        raise ConfigError(f'{where}: {in_one_line(error)}') from error
    model = config.get('model')
    ConfigError.check(isinstance(model, dict), where, 'model=dict(type=...) in it', repr(model))
    before = [*config]
    try:
        config.merge_from_dict(options or {})
    except Exception as error:  # by the kind of what is at the key
        _check_places(config, options)
        raise ConfigError(f'--cfg-options {options}: {in_one_line(error)}') from error
    check_keys(config, options or {}, before)
    return config


def _check_places(config: Config, options: dict) -> None:
    """Check that options name items of lists by numbers of their places."""
    for option in options:
        value, before = config, []
        for part in option.split('.'):
            if isinstance(value, list | tuple):
                ok = part.isdigit() and int(part) < len(value)
                place = f'a number below {len(value)} behind {".".join(before)}, a list'
                if not value:
                    place = (
                        f'no item of {".".join(before)}, which is empty here: fill it in a config'
                    )
                ConfigError.check(ok, f'--cfg-options {option}', place, repr(part))
                part = int(part)
            value = value[part] if isinstance(part, int) else getattr(value, 'get', {}.get)(part)
            before.append(str(part))


def prepare_config(args: argparse.Namespace) -> Config:
    """The config that the common options of tools/train.py and tools/test.py ask for.

    Args:
        args: Of :func:`hsakd.utils.cli.runner_parser`.

    Raises:
        ConfigError: As :func:`load_config`; or --skip-bad-images without an image folder.
    """
    config = load_config(args.config, args.cfg_options)
    variable = _LAUNCHED_BY.get(args.launcher, 'PATH')
    started = 'a start by torchrun (pytorch), srun (slurm) or mpirun (mpi)'
    where = f'--launcher {args.launcher}'
    ConfigError.check(variable in os.environ, where, started, f'no {variable} in the environment')
    config.launcher = args.launcher
    default = config.get('work_dir') or str(Path('work_dirs') / Path(args.config).stem)
    config.work_dir = args.work_dir or default
    try:
        Path(config.work_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = 'a file' if Path(config.work_dir).is_file() else error.strerror
        where, expected = f'--work-dir={config.work_dir!r}', 'a folder that can be written to'
        raise ConfigError.expected(where, expected, found) from error
    if args.skip_bad_images:
        _skip_bad_images(config)
    given = args.cfg_options or {}
    for key in _LOADERS:
        loader = config.get(key)
        if loader:
            if not is_detection(config):  # images of one size
                default = dict(type='default_collate')
                if loader.get('collate_fn', default) == default:
                    loader.collate_fn = ConfigDict(type='hsakd.collate_images')
            loader.setdefault('pin_memory', is_cuda_available())
            if loader.get('num_workers', 0):
                loader.setdefault('timeout', LOADER_TIMEOUT)
            if args.no_pin_memory and f'{key}.pin_memory' not in given:
                loader.pin_memory = False
    return config


def training_runner(args: argparse.Namespace) -> DistillationRunner:
    """The runner of a training, from the options of tools/train.py.

    Raises:
        UserError: They or the config cannot be used.
    """
    config = prepare_config(args)
    if args.no_validate:
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
    for key in ('train_dataloader', 'val_dataloader'):
        loader = config.get(key)
        if loader:
            loader.setdefault('persistent_workers', True)  # where there are workers
            if f'{key}.persistent_workers' not in (args.cfg_options or {}):
                loader.persistent_workers &= not args.no_persistent_workers
    if args.amp:
        gpu = is_cuda_available() or is_npu_available() or is_musa_available()
        ConfigError.check(gpu, '--amp', 'a GPU', 'none; train without it')
        config.optim_wrapper.type = 'AmpOptimWrapper'
        config.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.fast:
        config.fast = True
    if args.auto_scale_lr:
        known = 'auto_scale_lr' in config
        ConfigError.check(known, '--auto-scale-lr', 'auto_scale_lr.base_batch_size', 'none')
        config.auto_scale_lr.enable = True
    if os.environ.get(_LAUNCHED_BY.get(args.launcher, ''), '0') == '0':
        claim(config.work_dir)
    checkpoint, notice = prepare_start(config, args.resume)
    runner = build_runner(config, train=True, checkpoint=checkpoint)
    if notice:
        runner.logger.warning(notice)
    return runner


def build_runner(
    config: Config, train: bool = False, checkpoint: Mapping | None = None
) -> DistillationRunner:
    """The runner of a config.

    Args:
        config: The config.
        train: Build data sets and optimizer of training too, else those of the test; the runner
            would do it when it starts.
        checkpoint: Content of ``load_from``, where it was read already.

    Raises:
        UserError: The config cannot be used. A traceback goes to the log file.
    """
    notice = None
    if train:
        check_fast(config)
    if is_detection(config):
        import_mmdet()
        with building(KEY):
            if train and config.get('load_from'):
                key = 'resume' if config.resume else 'load_from'
                notice = prepare_trained_detector(config, config.load_from, key, checkpoint)
            elif train and KEY in config:
                notice = prepare_pretrained_backbone(config)
    with building('the config', config):
        runner = (DistillationRunner if train else TestingRunner).from_cfg(config)
    if checkpoint:
        runner.checkpoint = str(config.load_from), checkpoint
    if notice:
        runner.logger.log(*notice)
    if train:
        runner.train_loop  # noqa: B018  built when first asked for
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    else:
        runner.test_loop  # noqa: B018
    return runner


def prepare_start(config: Config, option: str | None) -> tuple[Mapping | None, str]:
    """Settle which checkpoint to start or go on from, and take its seed.

    A process that torchrun or Slurm started again goes on by itself.

    Args:
        config: With ``work_dir``; ``resume`` and ``load_from`` are set.
        option: Of ``--resume``: a file, 'auto' for the last checkpoint, or None.

    Returns:
        The checkpoint's content, and what the user has to know of it.

    Raises:
        CheckpointError: It cannot be read; or there are checkpoints, and none is whole.
    """
    start, notice, checkpoint, found = config.get('load_from'), '', None, None
    work_dir = Path(config.work_dir)
    again = restarted()
    if not again and option != 'auto' and os.environ.get('RANK', '0') == '0':
        (work_dir / STARTING).touch()
    begun = (work_dir / POINTER).is_file() and not (work_dir / STARTING).exists()
    by_config = bool(config.get('resume')) and option is None  # mmengine's way
    if option == 'auto' or (again and begun) or (by_config and not start):
        found, checkpoint, notice = last_whole_checkpoint(work_dir)
        if found is None:
            notice = (
                f'--resume: no checkpoint in {config.work_dir}; training starts from '
                f'{start or "scratch"}'
            )
    elif option is not None:
        found = Path(option).expanduser()
    elif by_config:
        found = start
    config.resume = found is not None
    config.load_from = str(found or start) if found or start else None
    if config.load_from is None:
        return None, notice
    key = '--resume' if config.resume else 'load_from'
    is_file = '://' not in config.load_from
    CheckpointError.check(is_file, key, 'a file (download it first)', repr(config.load_from))
    checkpoint = checkpoint or read_checkpoint(config.load_from, key)
    seed = checkpoint_meta(checkpoint).get('seed')
    randomness = dict(config.get('randomness') or {})
    if config.resume and seed is not None and seed != randomness.get('seed'):
        if randomness.get('seed') is not None:
            notice = f'{notice}; ' * bool(notice) + f'randomness.seed={seed}, as before'
        config.randomness = dict(randomness, seed=seed)
    return checkpoint, notice


def is_detection(config: Config) -> bool:
    """Whether a config is one of mmdet's or made from one."""
    return config.get('default_scope') == 'mmdet'


def _skip_bad_images(config: Config) -> None:
    loaders = [config[key] for key in _LOADERS if config.get(key)]
    datasets = [part for loader in loaders for part in leaf_datasets(loader.get('dataset', {}))]
    scope = config.get('default_scope') or 'hsakd'
    accepted = [f'hsakd.{name}' for name in _OF_FILES]
    of_files = [
        d for d in datasets if (d.type if '.' in d.type else f'{scope}.{d.type}') in accepted
    ]
    found = sorted({dataset.type for dataset in datasets})
    ConfigError.check(of_files, '--skip-bad-images', f'one of {", ".join(_OF_FILES)}', found)
    for dataset in of_files:
        dataset.skip_bad_images = True

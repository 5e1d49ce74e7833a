"""From a config file to a runner, with errors that say which key is at fault."""

import argparse
import contextlib
import logging
import os
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.device import is_cuda_available
from mmengine.hooks import CheckpointHook, LoggerHook
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.registry import OPTIMIZERS
from mmengine.runner import Runner
from torch.utils.data import Dataset

from hsakd.engine.checkpoint_files import POINTER, STARTING, last_whole_checkpoint
from hsakd.engine.distributed import restarted
from hsakd.engine.pretrained_backbone import (
    KEY,
    prepare_pretrained_backbone,
    prepare_trained_detector,
)
from hsakd.engine.runner import DistillationRunner
from hsakd.utils.checkpoint import (
    checkpoint_weights,
    describe_mismatch,
    load_network,
    read_checkpoint,
)
from hsakd.utils.checks import is_number
from hsakd.utils.config_text import leaf_datasets
from hsakd.utils.errors import CheckpointError, ConfigError, UserError
from hsakd.utils.third_party import import_mmdet

_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
#: What each launcher sets in the environment of its processes.
_LAUNCHED_BY = {'pytorch': 'RANK', 'slurm': 'SLURM_PROCID', 'mpi': 'OMPI_COMM_WORLD_RANK'}
#: Optimiser wrappers that set the precision themselves.
_OTHER_PRECISIONS = ('AmpOptimWrapper', 'ApexOptimWrapper')
#: Seconds without a batch after which a loader with workers is taken for stuck.
LOADER_TIMEOUT = 600
#: Data sets that take ``skip_bad_images``.
_OF_FILES = ('ImageFolder', 'ImageNet', 'TinyImageNet', 'VOCDataset', 'CocoDataset')


def load_config(path: str, options: dict | None = None) -> Config:
    """Read a config file and apply ``--cfg-options``.

    Raises:
        ConfigError: The file is missing or no config, or an option does not fit it.
    """
    if not Path(path).is_file():
        raise ConfigError(f'config {path!r}: no such file; those of hsakd are in configs/')
    try:
        config = Config.fromfile(path)
    except UserError:
        raise
    except Exception as error:  # a config is a program, and can fail in any way
        raise ConfigError(f'config {path!r}: {_in_one_line(error)}') from error
    if not isinstance(config.get('model'), dict):
        raise ConfigError(
            f'config {path!r}: no model in it; accepted are configs with model=dict(type=...)'
        )
    try:
        config.merge_from_dict(options or {})
    except Exception as error:  # by the kind of what is at the key
        raise ConfigError(f'--cfg-options {options}: {_in_one_line(error)}') from error
    return config


def prepare_config(args: argparse.Namespace) -> Config:
    """The config that the common options of tools/train.py and tools/test.py ask for.

    Args:
        args: Of :func:`hsakd.utils.cli.runner_parser`.

    Raises:
        ConfigError: As :func:`load_config`; or --skip-bad-images without an image folder.
    """
    config = load_config(args.config, args.cfg_options)
    variable = _LAUNCHED_BY.get(args.launcher)
    if variable and variable not in os.environ:
        raise ConfigError(
            f'--launcher {args.launcher}: the environment has no {variable}; accepted is a start '
            'by torchrun (pytorch), srun (slurm) or mpirun (mpi)'
        )
    config.launcher = args.launcher
    if args.work_dir:
        config.work_dir = args.work_dir
    elif not config.get('work_dir'):
        config.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    try:
        Path(config.work_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = 'is a file' if Path(config.work_dir).is_file() else error.strerror
        raise ConfigError(
            f'--work-dir={str(config.work_dir)!r}: {found}; accepted is a folder that can be '
            'written to'
        ) from error
    if args.skip_bad_images:
        _skip_bad_images(config)
    for key in _LOADERS:
        if config.get(key):
            if not is_detection(config):  # images of one size
                config[key].setdefault('collate_fn', ConfigDict(type='default_collate'))
            config[key].setdefault('pin_memory', is_cuda_available())
            if config[key].get('num_workers', 0):
                config[key].setdefault('timeout', LOADER_TIMEOUT)
            if args.no_pin_memory and f'{key}.pin_memory' not in (args.cfg_options or {}):
                config[key].pin_memory = False
    return config


def build_runner(config: Config, train: bool = False) -> Runner:
    """The runner of a config.

    Args:
        config: The config.
        train: Build data sets, optimiser and schedules of training too, else those of the test;
            the runner would do it when it starts.

    Raises:
        UserError: The config cannot be used. A traceback goes to the log file.
    """
    import hsakd  # noqa: F401  registers hsakd's types

    if train:
        _check_fast(config)
    if is_detection(config):
        import_mmdet()
    with _building(KEY):
        notice = _prepare_detector(config) if train and is_detection(config) else None
    with _building('the config'):
        runner = DistillationRunner.from_cfg(config)
    if notice:
        runner.logger.log(*notice)
    if train:
        _build_training(runner, config)
    else:
        with _building('test_dataloader, test_cfg or test_evaluator'):
            runner.test_loop  # noqa: B018  built when first asked for
    return runner


def prepare_resume(config: Config, option: str | None) -> str:
    """Settle which checkpoint to go on from, and take its seed.

    A process that torchrun or Slurm started again goes on by itself.

    Args:
        config: With ``work_dir``; ``resume`` and ``load_from`` are set.
        option: Of ``--resume``: a file, 'auto' for the last checkpoint, or None.

    Returns:
        What the user has to know of it; empty if nothing.

    Raises:
        CheckpointError: There are checkpoints, and none is whole.
    """
    start, notice = config.get('load_from'), ''
    work_dir = Path(config.work_dir)
    again = restarted()
    if not again and option != 'auto' and os.environ.get('RANK', '0') == '0':
        (work_dir / STARTING).touch()
    begun = (work_dir / POINTER).is_file() and not (work_dir / STARTING).exists()
    if option == 'auto' or (again and begun):
        found, notice = last_whole_checkpoint(config.work_dir)
    elif option is not None:
        found = Path(option).expanduser()
    elif config.get('resume') and not start:  # mmengine's way in a config
        found, notice = last_whole_checkpoint(config.work_dir)
    elif config.get('resume'):
        found, start = start, None
    else:
        return ''
    config.resume = found is not None
    config.load_from = str(found) if found else start
    if not found:
        start = start or 'scratch'
        return f'--resume: no checkpoint in {config.work_dir}; training starts from {start}'
    if '://' not in config.load_from:
        meta = read_checkpoint(config.load_from, '--resume').get('meta')
        seed = meta.get('seed') if isinstance(meta, Mapping) else None
        randomness = dict(config.get('randomness') or {})
        if seed is not None and seed != randomness.get('seed'):
            if randomness.get('seed') is not None:
                notice = f'{notice}; ' * bool(notice) + f'randomness.seed={seed}, as before'
            config.randomness = dict(randomness, seed=seed)
    return notice


def _prepare_detector(config: Config) -> tuple[int, str] | None:
    """Set up a detector for what its training starts from, see what they return."""
    start = config.get('load_from')
    if start:
        return prepare_trained_detector(config, start, 'resume' if config.resume else 'load_from')
    return prepare_pretrained_backbone(config) if KEY in config else None


def _build_training(runner: Runner, config: Config) -> None:
    """Build what ``runner.train`` would, in its order."""
    with _building('train_dataloader or train_cfg'):
        loop = runner.train_loop
    with _building('val_dataloader, val_cfg or val_evaluator'):
        runner.val_loop  # noqa: B018  built when first asked for
    for key in ('max_epochs', 'max_iters', 'val_interval'):
        number = getattr(loop, key)
        if key in config.train_cfg and not (isinstance(number, int) and number > 0):
            raise ConfigError(f'train_cfg.{key}={number!r}: accepted are 1 and more')
    with _building(f'optim_wrapper={config.optim_wrapper}'):
        optimizer = config.optim_wrapper.optimizer
        if OPTIMIZERS.get(optimizer.type) is None:
            raise ConfigError(
                f'optim_wrapper.optimizer.type={optimizer.type!r} is not known; accepted are the '
                'optimisers of torch.optim'
            )
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    with _building(f'auto_scale_lr={runner.auto_scale_lr}'):
        runner.scale_lr(runner.optim_wrapper, runner.auto_scale_lr)
    runner.auto_scale_lr = None  # done, and schedules are made for the scaled rate
    if runner.param_schedulers is not None:
        with _building(f'param_scheduler={config.param_scheduler}'):
            runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    for scheduler in runner.param_schedulers or ():
        milestones = list(getattr(scheduler, 'milestones', ()))
        if not all(isinstance(milestone, int) for milestone in milestones):
            raise ConfigError(
                f'param_scheduler.milestones={milestones}: accepted are numbers of epochs (of '
                'iterations with by_epoch=False)'
            )
        gamma = getattr(scheduler, 'gamma', 0.1)
        if not is_number(gamma):
            raise ConfigError(f'param_scheduler.gamma={gamma!r}: accepted is a number, e.g. 0.1')
    for hook in runner.hooks:
        interval = getattr(hook, 'interval', 1)
        if isinstance(hook, CheckpointHook | LoggerHook) and not isinstance(interval, int):
            raise ConfigError(
                f'default_hooks: interval={interval!r} of {type(hook).__name__}; accepted are '
                'numbers of epochs or iterations'
            )


@contextlib.contextmanager
def _building(key: str) -> Iterator[None]:
    """Report as one message of ``key`` what constructors of anybody's classes raise."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        logger = MMLogger.get_current_instance()
        if any(isinstance(handler, logging.FileHandler) for handler in logger.handlers):
            logger.info(traceback.format_exc())  # which the terminal does not show
        raise ConfigError(f'{key} cannot be used: {_in_one_line(error)}') from error


def _in_one_line(error: Exception) -> str:
    # The text of a KeyError is its argument in quotes.
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    return f'{type(error).__name__}: {" ".join(str(message).split())}'


def _check_fast(config: Config) -> None:
    """See that ``fast`` and what else the config says go together.

    Raises:
        ConfigError: They do not.
    """
    fast = config.get('fast', False)
    if not isinstance(fast, bool):
        raise ConfigError(f'fast={fast!r}: accepted are True and False')
    if not fast:
        return
    optim_wrapper = config.get('optim_wrapper') or {}
    kind = optim_wrapper.get('type', 'OptimWrapper')
    kind = kind if isinstance(kind, str) else kind.__name__
    others = {
        'a config of a detector': is_detection(config),
        f'compile={config.get("compile")!r}': bool(config.get('compile')),
        f'optim_wrapper.type={kind!r} (--amp)': kind in _OTHER_PRECISIONS,
        'optim_wrapper.accumulative_counts above 1 on a GPU': is_cuda_available()
        and optim_wrapper.get('accumulative_counts', 1) > 1,
    }
    for other, found in others.items():
        if found:
            raise ConfigError(f'fast=True (--fast) and {other}: accepted is one of them')


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
    if not of_files:
        found = sorted({dataset.type for dataset in datasets})
        raise ConfigError(
            f'--skip-bad-images is for {", ".join(_OF_FILES)}; the config has {found}'
        )
    for dataset in of_files:
        dataset.skip_bad_images = True


def load_for_test(runner: Runner, path: str) -> None:
    """Load a checkpoint whole into what is tested.

    That is a network, a student, all networks that learn online, or a detector.

    Raises:
        CheckpointError: It does not fit.
    """
    from hsakd.models import BranchedClassifier

    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    network = getattr(model, 'student', model)
    if isinstance(network, BranchedClassifier):
        load_network(network, path, 'checkpoint')
        return
    checkpoint = read_checkpoint(path, 'checkpoint')
    weights = checkpoint_weights(checkpoint)
    mismatch = describe_mismatch(model.state_dict(), weights)
    if mismatch:
        what = f'{len(model.networks)} networks' if hasattr(model, 'networks') else 'model'
        raise CheckpointError(
            f'checkpoint={str(path)!r} does not fit the {what} of the config, a '
            f'{type(model).__name__}: {mismatch}'
        )
    if hasattr(model, 'with_bbox'):
        _check_trained_classes(checkpoint, runner.test_dataloader.dataset, path)
    model.load_state_dict(weights)


def _check_trained_classes(checkpoint: Mapping, dataset: Dataset, path: str) -> None:
    """See that labels mean to the data what they mean to the detector."""
    meta = checkpoint.get('meta')
    saved = meta.get('dataset_meta') if isinstance(meta, Mapping) else None
    trained = tuple(saved.get('classes') or ()) if isinstance(saved, Mapping) else ()
    found = tuple(dataset.metainfo.get('classes') or ())
    if trained and found and trained != found:
        raise ConfigError(
            f'test_dataloader.dataset.metainfo.classes={found}: checkpoint={str(path)!r} was '
            f'trained with {trained}; accepted are these, in this order'
        )

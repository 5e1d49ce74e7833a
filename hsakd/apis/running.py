"""From a config file to a runner, with errors that say which key is at fault."""

import argparse
import re
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.device import is_cuda_available
from mmengine.model import is_model_wrapper
from mmengine.registry import OPTIMIZERS
from mmengine.runner import Runner

from hsakd.engine.runner import DistillationRunner
from hsakd.utils.checkpoint import describe_mismatch, load_network, read_checkpoint
from hsakd.utils.errors import CheckpointError, ConfigError, UserError

_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
#: Data sets that take ``skip_bad_images``.
_OF_FILES = ('ImageFolder', 'ImageNet', 'TinyImageNet')


def load_config(path: str, options: dict | None = None) -> Config:
    """Read a config file and apply ``--cfg-options``.

    Raises:
        ConfigError: The file is missing or no config, or an option does not fit it.
    """
    if not Path(path).is_file():
        raise ConfigError(f'config {path!r}: no such file; those of hsakd are in configs/')
    try:
        config = Config.fromfile(path)
    except (SyntaxError, FileNotFoundError, KeyError, AttributeError, OSError) as error:
        raise ConfigError(f'config {path!r}: {error}') from error
    try:
        config.merge_from_dict(options or {})
    except (KeyError, IndexError, TypeError, AssertionError) as error:
        raise ConfigError(f'--cfg-options {options}: {error}') from error
    return config


def prepare_config(args: argparse.Namespace) -> Config:
    """The config that the common options of tools/train.py and tools/test.py ask for.

    Args:
        args: Of :func:`hsakd.utils.cli.runner_parser`.

    Raises:
        ConfigError: As :func:`load_config`; or --skip-bad-images without an image folder.
    """
    config = load_config(args.config, args.cfg_options)
    config.launcher = args.launcher
    if args.work_dir:
        config.work_dir = args.work_dir
    elif not config.get('work_dir'):
        config.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    try:
        Path(config.work_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f'--work-dir={str(config.work_dir)!r}: {error.strerror}; accepted is a folder that can '
            'be written to'
        ) from error
    if args.skip_bad_images:
        _skip_bad_images(config)
    for key in _LOADERS:
        if config.get(key):
            config[key].setdefault('collate_fn', ConfigDict(type='default_collate'))
            config[key].setdefault('pin_memory', is_cuda_available())
            if args.no_pin_memory:
                config[key].pin_memory = False
    return config


def build_runner(config: Config, train: bool = False) -> Runner:
    """The runner of a config.

    Args:
        config: The config.
        train: Build data sets and optimiser too, which the runner does otherwise when it starts.

    Raises:
        ConfigError: A ``type`` is unknown, or gets an argument or value that it does not take.
    """
    import hsakd  # noqa: F401  registers hsakd's types

    try:
        runner = DistillationRunner.from_cfg(config)
        if train:
            runner.train_loop, runner.val_loop  # noqa: B018  built when first asked for
            if OPTIMIZERS.get(config.optim_wrapper.optimizer.type) is None:
                raise ConfigError(
                    f'optim_wrapper.optimizer.type={config.optim_wrapper.optimizer.type!r} is not '
                    'known; accepted are the optimisers of torch.optim'
                )
            runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        return runner
    except UserError:
        raise
    except KeyError as error:
        if 'registry' in str(error):
            raise ConfigError(str(error.args[0])) from error
        raise
    except (TypeError, ValueError) as error:
        if re.search('(unexpected keyword|required positional) argument|^Invalid ', str(error)):
            raise ConfigError(f'the config gives a class what it does not take: {error}') from error
        raise


def _skip_bad_images(config: Config) -> None:
    datasets = []
    for key in _LOADERS:
        dataset = (config.get(key) or {}).get('dataset', {})
        while 'dataset' in dataset:  # a wrapper such as FewShotSubset
            dataset = dataset.dataset
        datasets.append(dataset)
    of_files = [d for d in datasets if d.get('type', '').removeprefix('hsakd.') in _OF_FILES]
    if not of_files:
        found = sorted({dataset.type for dataset in datasets if dataset})
        raise ConfigError(
            f'--skip-bad-images is for {", ".join(_OF_FILES)}; the config has {found}'
        )
    for dataset in of_files:
        dataset.skip_bad_images = True


def load_for_test(runner: Runner, path: str) -> None:
    """Load a checkpoint whole into what is tested: a network, a student, or all that learn online.

    Raises:
        CheckpointError: It does not fit.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if not hasattr(model, 'networks'):
        load_network(getattr(model, 'student', model), path, 'checkpoint')
        return
    weights = read_checkpoint(path, 'checkpoint').get('state_dict', {})
    mismatch = describe_mismatch(model.state_dict(), weights)
    if mismatch:
        raise CheckpointError(
            f'checkpoint={str(path)!r} does not fit the {len(model.networks)} networks of the '
            f'config: {mismatch}'
        )
    model.load_state_dict(weights)

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce, broadcast_object_list
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from hsakd.utils.checkpoint import (
    checkpoint_weights,
    describe_mismatch,
    network_state_dict,
    read_checkpoint,
)
from hsakd.utils.errors import CheckpointError, ConfigError

from .acceleration import accelerate, use_channels_last
from .checkpoint_files import BACKEND
from .distributed import (
    SharedStatisticsHook,
    check_settings,
    init_gloo,
    leave_out_fixed_parts,
    on_cpu,
)
from .faults import described
from .loops import TRAIN_LOOPS, ResumableEpochs, ResumableIterations
from .message_hub import DeferredMessageHub
from .pretrained_backbone import KEY, RANDOM, load_pretrained_backbone
from .tensor_loader import TensorLoader
from .training_data import SeededItems, init_worker, training_loader

# What mmengine says of its own internals.
_NOISE = (
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'Distributed training is not used',
    'Resumed iteration number is not divisible by',  # gradients are in our checkpoints
)

#: Steps that are kept of each loss and time, for hooks of anybody's.
_HISTORY = 1000
#: What torch and mmengine take for a loader's workers.
_OF_WORKERS = ('num_workers', 'persistent_workers', 'prefetch_factor', 'timeout')

_in_backbone = re.compile(r'(?:^|\.)(backbone\.)').search  # by the name of a weight


def _for_terminal(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    if message.startswith(_NOISE):
        return False
    table = '+---' in message or 'Average Precision' in message  # of a metric of mmdet
    return record.levelno >= logging.WARNING or message.count('\n') < 3 or table


class DistillationRunner(Runner):
    """mmengine's runner, with a terminal that can be read and checkpoints that are checked.

    The config, the environment and the list of hooks go to the log file alone. A checkpoint is
    first read without executing what is in it; one to resume from has to fit whole.
    """

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Mmengine's logger, with a filter on its console handler."""
        logger = super().build_logger(*args, **kwargs)
        for handler in console_handlers(logger):
            handler.addFilter(_for_terminal)
        return logger

    def build_message_hub(self, message_hub: dict | None = None) -> MessageHub:
        """One that does not make each step wait; it keeps what the log reads, and a little more."""
        settings = {'name': self.experiment_name, **(message_hub or {})}
        hub = DeferredMessageHub.get_instance(**settings)
        windows = [self.log_processor.window_size]
        windows += [entry.get('window_size') for entry in self.log_processor.custom_cfg]
        if all(isinstance(window, int) for window in windows):  # others reach back to the start
            hub.train_length = max(_HISTORY, *windows)
        return hub

    def setup_env(self, env_cfg: dict) -> None:
        """mmengine's, and gloo between processes where there is no accelerator."""
        if self.launcher in ('pytorch', 'slurm') and not torch.accelerator.is_available():
            init_gloo(self.launcher, env_cfg.get('dist_cfg', {}).get('timeout'))
        super().setup_env(env_cfg)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """mmengine's, without a GPU too, and with fixed parts left out of the traffic."""
        if not is_model_wrapper(model):
            # Before DDP copies the layout; the model is moved to its device by mmengine's.
            use_channels_last(model, torch.device(get_device()), self.cfg.get('fast', False))
        if self.distributed and not is_model_wrapper(model):
            check_settings(self.cfg)
            leave_out_fixed_parts(model)
            if not torch.accelerator.is_available():
                unused = self.cfg.get('find_unused_parameters', False)
                model_wrapper_cfg = on_cpu(model_wrapper_cfg, unused)
        return super().wrap_model(model_wrapper_cfg, model)

    def register_custom_hooks(self, hooks: list) -> None:
        """mmengine's, and what any run of several processes needs."""
        super().register_custom_hooks(hooks)
        if self.distributed:
            self.register_hook(SharedStatisticsHook())

    def _init_model_weights(self) -> None:
        """mmengine's, and then the backbone that ``pretrained_backbone`` names.

        That is not needed where a whole checkpoint follows.
        """
        super()._init_model_weights()
        source = self.cfg.get(KEY)
        last = Path(self.work_dir) / 'last_checkpoint'
        follows = self._load_from or (self._resume and last.is_file())
        if source and source != RANDOM and not follows:
            model = self.model.module if is_model_wrapper(self.model) else self.model
            network = self.cfg.get('pretrained_network')
            self.logger.info(load_pretrained_backbone(model, source, network))

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """mmengine's, with our initialiser of workers.

        Raises:
            ConfigError: It is to hold its data in memory, which is for training alone.
        """
        if isinstance(dataloader, dict):
            dataloader = {'worker_init_fn': dict(type=init_worker), **dataloader}
            dataloader.pop('disable_subprocess_warning', None)  # of mmengine's initialiser
            if dataloader.pop('in_memory', False):
                raise ConfigError(
                    'in_memory=True is for train_dataloader alone, with EpochBasedTrainLoop or '
                    'IterBasedTrainLoop in train_cfg; accepted here is in_memory=False'
                )
        return Runner.build_dataloader(dataloader, seed, diff_rank_seed)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build mmengine's two loops as ours, which can start anywhere; others as they are."""
        known = isinstance(loop, dict) and isinstance(self._train_dataloader, dict)
        name = loop.get('type', loop.get('by_epoch')) if known else None
        name = getattr(name, '__name__', name)
        kind = TRAIN_LOOPS.get(name.split('.')[-1] if isinstance(name, str) else name)
        if kind is None:
            return super().build_train_loop(loop)
        settings = {key: loop[key] for key in loop if key not in ('type', 'by_epoch', '_scope_')}
        dataloader = self._build_train_dataloader(endless=kind is ResumableIterations)
        return kind(self, dataloader, **settings)

    def _build_train_dataloader(self, endless: bool) -> DataLoader | TensorLoader:
        config = training_loader(self._train_dataloader, endless)
        in_memory = config.pop('in_memory', False)
        max_bad_images = self.cfg.get('max_bad_images', 0)
        if in_memory:
            config = {key: value for key, value in config.items() if key not in _OF_WORKERS}
        dataloader = self.build_dataloader(
            config, self.seed, self._randomness_cfg.get('diff_rank_seed', False)
        )
        dataset = dataloader.dataset
        if not in_memory:
            dataset.__getitems__ = SeededItems(dataset, self.seed, max_bad_images)
            # torch's is None with batch samplers
            vars(dataloader)['batch_size'] = config['batch_size']
            return dataloader
        if max_bad_images:
            raise ConfigError(
                f'max_bad_images={max_bad_images!r} with train_dataloader.in_memory=True, which '
                'reads every image before training: accepted are 0, with --skip-bad-images to '
                'leave bad ones out, and train_dataloader.in_memory=False'
            )
        device = next(self.model.parameters()).device
        return TensorLoader(dataset, dataloader.batch_sampler, self.seed, device)

    def _maybe_compile(self, target: str) -> None:
        """mmengine's, which is the last step before the loop of training, and our acceleration."""
        model = self.model.module if is_model_wrapper(self.model) else self.model
        accelerate(model, self.cfg.get('fast', False))
        super()._maybe_compile(target)

    def train(self) -> nn.Module:
        """mmengine's, with faults of loaders and other processes in one line."""
        with described('train_dataloader'):
            return super().train()

    def test(self) -> dict[str, float]:
        """As :meth:`train`."""
        with described('test_dataloader'):
            return super().test()

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        *args,
        save_optimizer: bool = True,
        meta: dict | None = None,
        backend_args: dict | None = None,
        **kwargs,
    ) -> None:
        """mmengine's, to be called in all processes; a local file is written whole or not at all.

        Args:
            out_dir: The folder.
            filename: Its name in it.
            *args: Of mmengine's.
            save_optimizer: Whether to save the optimiser, and gradients that wait for its step.
            meta: What is noted; added are the batches of an epoch.
            backend_args: Of mmengine's, for other than local files.
            **kwargs: Of mmengine's.

        Raises:
            CheckpointError: It cannot be saved; in all processes.
        """
        meta = dict(meta or {}, batches_per_epoch=len(self.train_dataloader))
        if save_optimizer:
            meta['gradients'] = _waiting_gradients(self.optim_wrapper, self.model)
        failure = [None]
        try:
            super().save_checkpoint(
                out_dir,
                filename,
                *args,
                save_optimizer=save_optimizer,
                meta=meta,
                backend_args=backend_args or BACKEND,
                **kwargs,
            )
        except CheckpointError as error:
            failure = [str(error)]
        broadcast_object_list(failure)
        if failure[0]:
            raise CheckpointError(failure[0])

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Go on from a checkpoint, exactly where it was saved.

        Raises:
            CheckpointError: It holds weights alone, or others than exactly those of the model.
        """
        checkpoint = read_checkpoint(filename, 'resume')
        missing = _missing_to_resume(checkpoint)
        if missing:
            raise CheckpointError(
                f'resume={str(filename)!r} has no {", ".join(missing)}: accepted are checkpoints '
                'that tools/train.py saves at the end of an epoch or interval; weights alone are '
                f'what --cfg-options load_from={filename} takes'
            )
        found = checkpoint_weights(checkpoint)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        mismatch = describe_mismatch(model.state_dict(), found)
        if mismatch:
            raise CheckpointError(
                f'resume={str(filename)!r} does not fit the model of the config, a '
                f'{type(model).__name__}: {mismatch}'
            )
        super().resume(filename, *args, **kwargs)
        meta = checkpoint['meta']
        gradients = meta.get('gradients') or {}
        for name, parameter in model.named_parameters():
            if name in gradients:
                parameter.grad = torch.empty_like(parameter).copy_(gradients[name])
        if isinstance(self.train_loop, ResumableEpochs):
            self._resume_within_epoch(meta)

    def _resume_within_epoch(self, meta: Mapping) -> None:
        """Set the iteration by the share of the epoch that is done.

        With other batches, or another number of processes, it is another one than in the
        checkpoint.
        """
        loop, now = self.train_loop, len(self.train_dataloader)
        then = meta.get('batches_per_epoch') or now
        done = meta['iter'] - meta['epoch'] * then
        if then != now:
            self.logger.warning(
                f'the checkpoint is of a training with {then} iterations an epoch, this one has '
                f'{now}: it goes on, and not exactly as with the same batches and processes'
            )
            done = done * now // then
        loop._iter = loop._epoch * now + min(max(done, 0), now)

    def load_checkpoint(self, filename: str, *args, **kwargs) -> dict:
        """Load the weights to start or go on from.

        The file is of the same kind of model or of one network (see
        :func:`~hsakd.utils.checkpoint.network_state_dict`), which then goes to every network under
        training. The backbone has to fit whole; of the rest what fits is loaded and what does not
        is reported, such as the head where the classes are others.

        Args:
            filename: The checkpoint.
            *args: Of mmengine's, without effect; the file is read to the CPU.
            **kwargs: As ``args``.

        Returns:
            What is in the file.

        Raises:
            CheckpointError: The file is missing or broken, would execute code, or does not fit.
        """
        checkpoint = dict(read_checkpoint(filename, 'load_from'))
        if isinstance(checkpoint.get('meta'), Mapping):  # mmengine's resume runs meta.config
            meta = checkpoint['meta'].items()
            checkpoint['meta'] = {key: value for key, value in meta if key != 'config'}
        model = self.model.module if is_model_wrapper(self.model) else self.model
        wanted = model.state_dict()
        weights = checkpoint_weights(checkpoint)
        if not wanted.keys() & weights.keys():
            network = network_state_dict(checkpoint, filename, 'load_from')
            prefixes = {name[: found.start(1)] for name in wanted if (found := _in_backbone(name))}
            weights = {p + name: value for p in prefixes for name, value in network.items()}
        checkpoint = {**checkpoint, 'state_dict': weights}
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)

        weights = checkpoint['state_dict']
        mismatch = describe_mismatch(
            {name: value for name, value in wanted.items() if _in_backbone(name)},
            {name: value for name, value in weights.items() if _in_backbone(name)},
        )
        fitting = {
            name: weights[name]
            for name, value in wanted.items()
            if name in weights and weights[name].shape == value.shape
        }
        if mismatch or not fitting:
            raise CheckpointError(
                f'load_from={str(filename)!r} does not fit the backbone of the config: '
                f'{mismatch or "the model has none"}'
            )
        model.load_state_dict(fitting, strict=False)
        self._has_loaded = True
        self.logger.info(f'{len(fitting)} of {len(wanted)} weights loaded from {filename}')
        mismatch = describe_mismatch(wanted, weights)
        if mismatch:
            self.logger.warning(f'load_from={str(filename)!r}: the rest starts afresh: {mismatch}')
        return checkpoint


def _waiting_gradients(optim_wrapper: OptimWrapper, model: nn.Module) -> dict[str, Tensor]:
    """Gradients that were accumulated and wait for a step, as means over all processes."""
    if not isinstance(optim_wrapper, OptimWrapper) or optim_wrapper.should_update():
        return {}
    model = model.module if is_model_wrapper(model) else model
    gradients = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            gradient = parameter.grad.detach().clone()
            all_reduce(gradient, 'mean')
            gradients[name] = gradient.cpu()
    return gradients


def _missing_to_resume(checkpoint: object) -> list[str]:
    """What the state of a training run has, and a file of weights lacks."""
    checkpoint = checkpoint if isinstance(checkpoint, Mapping) else {}
    meta = checkpoint.get('meta')
    meta = meta if isinstance(meta, Mapping) else {}
    return [
        *(f'meta.{key}' for key in ('epoch', 'iter') if not isinstance(meta.get(key), int)),
        *(key for key in ('optimizer', 'message_hub') if key not in checkpoint),
    ]


def console_handlers(logger: logging.Logger) -> list[logging.Handler]:
    """The handlers of a logger that write to the terminal."""
    return [
        handler
        for handler in logger.handlers
        if isinstance(handler, logging.StreamHandler)
        and not isinstance(handler, logging.FileHandler)
    ]

import contextlib
import copy
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list
from mmengine.evaluator import Evaluator
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Priority, Runner
from torch import nn
from torch.utils.data import DataLoader

import hsakd
from hsakd.datasets.batch_samplers import training_labels
from hsakd.registry import DATASETS, RUNNERS
from hsakd.utils.checkpoint import checkpoint_meta, read_checkpoint
from hsakd.utils.errors import CheckpointError, ConfigError, DataError
from hsakd.utils.networks import open_heads, unwrap
from hsakd.utils.normalization import TrainedWith

from . import checks, hooks
from .acceleration import accelerate, removing_cut_off_libraries, use_channels_last
from .building import building
from .checkpoint_files import BACKEND
from .display import display, slow
from .distributed import SharedStatisticsHook, init_gloo, leave_out_frozen_parts, on_cpu
from .faults import described
from .hooks.checkpoint_hook import done
from .loading import load_what_fits, starting_weights
from .logs import set_up_console
from .loops import TRAIN_LOOPS, ResumableEpochs, ResumableIterations
from .message_hub import DeferredMessageHub
from .pretrained_backbone import KEY, RANDOM, load_pretrained_backbone
from .resuming import (
    FreshSchedule,
    check_optimizer_state,
    check_resumable,
    other_settings,
    place_in_training,
    restore_gradients,
    waiting_gradients,
)
from .tensor_loader import TensorLoader
from .training_data import SeededItems, init_worker, seed_all, training_loader

#: Tells the random numbers of starting weights from those of a step.
_WEIGHTS = 3
#: Steps that are kept of each loss and time, for hooks of anybody's.
_HISTORY = 1000
#: What torch and mmengine take for a loader's workers.
_OF_WORKERS = ('num_workers', 'persistent_workers', 'prefetch_factor', 'timeout')
#: What keeps a run safe. Each is there with its defaults, unless the config lists it.
_SAFETY_HOOKS = (
    hooks.SetupCheckHook,
    hooks.FewShotRecordHook,
    hooks.RunRecordHook,
    hooks.MissedValidationHook,
    hooks.NonFiniteLossHook,
    hooks.ProgressHook,
    hooks.PreemptionHook,
)
#: Hooks of mmengine's, with what an exact resume needs.
_OURS = ('CheckpointHook', 'EarlyStoppingHook')


@RUNNERS.register_module()
class DistillationRunner(Runner):
    """A runner that keeps a run safe whatever its config says.

    The terminal shows what a user needs; the config, the environment and the list of hooks go to
    the log file alone. Checkpoints are read without executing what is in them, written whole, and
    gone on from exactly. Model, data and losses are checked.

    Attributes:
        checkpoint: Path and content of the checkpoint to start or go on from, where it was read
            before; dropped once it is loaded.
        trained_with: What the checkpoint that was loaded says of its data, which is compared.
    """

    #: Whether the training data say how many classes open heads have, else the checkpoint does.
    of_training_data = True

    def __init__(self, *args, **kwargs) -> None:
        hsakd.setup()
        self.checkpoint: tuple[str, Mapping] | None = None
        self.trained_with: TrainedWith | None = None
        super().__init__(*args, **kwargs)

    # Set-up.

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """The logger of mmengine, with a filter on its console handler."""
        logger = super().build_logger(*args, **kwargs)
        set_up_console(logger)
        return logger

    def build_message_hub(self, message_hub: dict | None = None) -> MessageHub:
        """Build a message hub that makes no step wait and keeps little more than the log reads."""
        settings = {'name': self.experiment_name, **(message_hub or {})}
        hub = DeferredMessageHub.get_instance(**settings)
        windows = [self.log_processor.window_size]
        windows += [entry.get('window_size') for entry in self.log_processor.custom_cfg]
        if all(isinstance(window, int) for window in windows):  # others reach back to the start
            hub.train_length = max(_HISTORY, *windows)
        return hub

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model; heads with ``num_classes=None`` are for the classes of the data.

        Raises:
            ConfigError: They have no names, of which there would be a number.
        """
        if self.of_training_data and isinstance(model, dict) and any(open_heads(model)):
            number = self._number_of_classes()
            model = copy.deepcopy(model)
            for head in [*open_heads(model), *open_heads(self.cfg.get('model'))]:
                head['num_classes'] = number
        return super().build_model(model)

    def _number_of_classes(self) -> int | None:
        """The classes of the training data, which are built here; None where they are not there.

        Then a test by a tool of mmpretrain's may go on, with those of the checkpoint.
        """
        loader = self._train_dataloader or {}
        dataset = loader.get('dataset') if isinstance(loader, dict) else loader.dataset
        try:
            with building('train_dataloader.dataset', self.cfg):
                dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        except DataError:
            if self._load_from:
                return None
            raise
        if isinstance(loader, dict):
            self._train_dataloader = {**loader, 'dataset': dataset}
        number = len(checks.classes_of(dataset) or ())
        expected = 'a number, since train_dataloader.dataset names no classes'
        ConfigError.check(number, 'num_classes of model.*head', expected, None)
        return number

    def setup_env(self, env_cfg: dict) -> None:
        """Set up the environment, with gloo between processes without an accelerator."""
        if self.launcher in ('pytorch', 'slurm') and not torch.accelerator.is_available():
            init_gloo(self.launcher, env_cfg.get('dist_cfg', {}).get('timeout'))
        super().setup_env(env_cfg)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model for several processes, without a GPU too, and send no frozen parts."""
        if not is_model_wrapper(model):
            # Before DDP copies the layout; the model is moved to its device by mmengine's.
            use_channels_last(model, torch.device(get_device()), self.cfg.get('fast', False))
            if self.distributed:
                checks.check_processes(self.cfg)
                leave_out_frozen_parts(model)
                if not torch.accelerator.is_available():
                    unused = self.cfg.get('find_unused_parameters', False)
                    model_wrapper_cfg = on_cpu(model_wrapper_cfg, unused)
        return super().wrap_model(model_wrapper_cfg, model)

    def register_hook(
        self, hook: Hook | dict, priority: str | int | Priority | None = None
    ) -> None:
        """Register a hook; ours, which resume exactly, in the places of mmengine's."""
        if isinstance(hook, dict):
            kind = hook.get('type')
            name = getattr(kind, '__name__', str(kind)).removeprefix('mmengine.')
            if name in _OURS:
                hook = dict(hook, type=f'hsakd.{name}')
        super().register_hook(hook, priority)

    def register_hooks(
        self,
        default_hooks: dict[str, Hook | dict] | None = None,
        custom_hooks: list[Hook | dict] | None = None,
    ) -> None:
        """Register the config's hooks, and those that keep any run safe."""
        super().register_hooks(default_hooks, custom_hooks)
        needed = [*_SAFETY_HOOKS, SharedStatisticsHook] if self.distributed else _SAFETY_HOOKS
        for kind in needed:
            if not any(isinstance(hook, kind) for hook in self.hooks):
                self.register_hook(kind())
        checks.check_intervals(self.hooks)

    def call_hook(self, fn_name: str, **kwargs) -> None:
        """Call all hooks; a wrong argument may show when a run starts, or at a validation."""
        if fn_name not in ('before_run', 'before_train', 'after_val_epoch'):
            super().call_hook(fn_name, **kwargs)
            return
        for hook in self.hooks:
            is_safe = isinstance(hook, _SAFETY_HOOKS)
            where = f'{type(hook).__name__} (custom_hooks or default_hooks)'
            with contextlib.nullcontext() if is_safe else self._reporting(where):
                getattr(hook, fn_name)(self, **kwargs)

    def build_evaluator(self, evaluator: dict | list | Evaluator) -> Evaluator:
        """Build an evaluator, of whose metrics a wrong argument may show when they compute."""
        built = super().build_evaluator(evaluator)
        for name in ('process', 'evaluate'):
            reporting = self._reporting('val_evaluator or test_evaluator')
            setattr(built, name, reporting(getattr(built, name)))
        return built

    @contextlib.contextmanager
    def _reporting(self, where: str) -> Iterator[None]:
        """As ``building``, except of the disk and other processes, which ``described`` is for."""
        try:
            yield
        except Exception as error:
            if isinstance(error, (OSError, RuntimeError) if self.distributed else OSError):
                raise
            with building(where, self.cfg):
                raise

    # Data, loops, optimizer: what mmengine builds when training or testing starts.

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a loader whose workers are initialized by us.

        Raises:
            ConfigError: It is to hold its data in memory, which is for training alone.
        """
        if isinstance(dataloader, dict):
            dataloader = {'worker_init_fn': dict(type=init_worker), **dataloader}
            dataloader.pop('disable_subprocess_warning', None)  # of mmengine's initializer
            if not dataloader.get('num_workers'):  # torch refuses what is of workers
                dataloader = {k: v for k, v in dataloader.items() if k not in _OF_WORKERS}
            DistillationRunner._check_not_in_memory(dataloader.pop('in_memory', False))
        return Runner.build_dataloader(dataloader, seed, diff_rank_seed)

    @staticmethod
    def _check_not_in_memory(in_memory: bool) -> None:
        expected = 'False, except for training with EpochBasedTrainLoop or IterBasedTrainLoop'
        ConfigError.check(not in_memory, 'in_memory', expected, in_memory)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build mmengine's two loops as ours, which can start anywhere; others as they are."""
        if isinstance(loop, BaseLoop):
            return loop
        with building('train_dataloader or train_cfg', self.cfg):
            kind = loop.get('type', loop.get('by_epoch'))
            kind = TRAIN_LOOPS.get(getattr(kind, '__name__', str(kind).split('.')[-1]))
            if kind is None or not isinstance(self._train_dataloader, dict):
                self._check_not_in_memory(self.cfg.get('in_memory', False))
                return self._remembered(super().build_train_loop(loop))
            settings = {k: v for k, v in loop.items() if k not in ('type', 'by_epoch', '_scope_')}
            with slow('reading the training data'):
                dataloader = self._build_train_dataloader(endless=kind is ResumableIterations)
            built = kind(self, dataloader, **settings)
        checks.check_train_loop(built, loop)
        return self._remembered(built)

    def _remembered(self, loop: BaseLoop) -> BaseLoop:
        """A loop, of whose data the model has made its memories."""
        model = unwrap(self.model)
        if getattr(model, 'remember', None):
            device = next(model.parameters()).device
            model.remember(training_labels(loop.dataloader.dataset))
            model.to(device)
        return loop

    def _build_train_dataloader(self, endless: bool) -> DataLoader | TensorLoader:
        needed = getattr(unwrap(self.model), 'batch_sampler', None)
        config = training_loader(self._train_dataloader, endless, needed)
        # Configs of before have it in train_dataloader, where mmengine's own runner takes it ill.
        in_memory = config.pop('in_memory', self.cfg.get('in_memory', False))
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
        ConfigError.check(
            not max_bad_images,
            'max_bad_images',
            '0 (with --skip-bad-images, to leave bad ones out) where in_memory=True '
            'reads every image before training',
            repr(max_bad_images),
        )
        device = next(self.model.parameters()).device
        return TensorLoader(dataset, dataloader.batch_sampler, self.seed, device)

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """The loop of mmengine, with faults in one message, as in what follows."""
        with building('val_dataloader, val_cfg or val_evaluator', self.cfg):
            return super().build_val_loop(loop)

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:  # noqa: D102
        with building('test_dataloader, test_cfg or test_evaluator', self.cfg):
            return super().build_test_loop(loop)

    def build_optim_wrapper(self, optim_wrapper: dict | OptimWrapper) -> OptimWrapper:  # noqa: D102
        with building('optim_wrapper', self.cfg):
            checks.check_optimizer(optim_wrapper)
            return super().build_optim_wrapper(optim_wrapper)

    def scale_lr(self, optim_wrapper: OptimWrapper, auto_scale_lr: dict | None = None) -> None:  # noqa: D102
        with building('auto_scale_lr', self.cfg):
            super().scale_lr(optim_wrapper, auto_scale_lr)

    def build_param_scheduler(self, scheduler: object) -> list | dict[str, list]:  # noqa: D102
        with building('param_scheduler', self.cfg):
            schedules = super().build_param_scheduler(scheduler)
        checks.check_schedules(schedules)
        return schedules

    # Running.

    def train(self) -> nn.Module:
        """Train; faults of loaders and other processes become one line."""
        with display, described('train_dataloader'), removing_cut_off_libraries():
            return super().train()

    def test(self) -> dict[str, float]:
        """Test; faults of loaders and other processes become one line."""
        with display, described('test_dataloader'):
            return super().test()

    def _init_model_weights(self) -> None:
        """Initialize the model, and load the backbone that ``pretrained_backbone`` names.

        That is not needed where a whole checkpoint follows. Of one seed a network starts alike
        whatever is built beside it, so that methods which are compared by seeds are paired.
        """
        seed_all(self.seed, _WEIGHTS)
        super()._init_model_weights()
        source = self.cfg.get(KEY)
        last = Path(self.work_dir) / 'last_checkpoint'
        follows = self._load_from or (self._resume and last.is_file())
        if source and source != RANDOM and not follows:
            network = self.cfg.get('pretrained_network')
            self.logger.info(load_pretrained_backbone(unwrap(self.model), source, network))

    def _maybe_compile(self, target: str) -> None:
        """Accelerate the model; mmengine calls this last before the loop of training."""
        accelerate(unwrap(self.model), self.cfg.get('fast', False))
        super()._maybe_compile(target)

    # Checkpoints.

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
        """Save a checkpoint, a local file whole or not at all; to be called in all processes.

        With the optimizer go gradients that wait for its step, and with ``meta`` the batches of an
        epoch.

        Raises:
            CheckpointError: It cannot be saved; in all processes.
        """
        meta = dict(meta or {}, batches_per_epoch=len(self.train_dataloader))
        if save_optimizer:
            meta['gradients'] = waiting_gradients(self.optim_wrapper, self.model)
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

    def resume(self, filename: str) -> None:
        """Go on from a checkpoint, exactly where it was saved.

        Where the settings of the config are others than those of the checkpoint, they count from
        here on, which is said.

        Raises:
            CheckpointError: It holds weights alone, or others than exactly those of the model; or
                the state of another optimizer.
        """
        checkpoint = self._read(filename, 'resume')
        check_resumable(checkpoint, self.model, str(filename))
        averaged = 'ema_state_dict' in checkpoint
        CheckpointError.check(
            not averaged or any(isinstance(hook, EMAHook) for hook in self.hooks),
            f'resume={str(filename)!r}',
            'EMAHook in custom_hooks, as before: the weights of the checkpoint are averages, which '
            f'--cfg-options load_from={shlex.quote(str(filename))} starts a new training from',
            'none',
        )
        changes = other_settings(checkpoint, self.cfg)
        check_optimizer_state(checkpoint, self.optim_wrapper, changes, str(filename))
        schedule = FreshSchedule(self.optim_wrapper, self.param_schedulers)
        self.checkpoint = str(filename), checkpoint  # for load_checkpoint
        others = any(key.startswith('param_scheduler') for key in changes)
        super().resume(filename, resume_param_scheduler=bool(self.param_schedulers) and not others)
        meta, loop = checkpoint['meta'], self.train_loop
        restore_gradients(meta.get('gradients') or {}, self.model)
        batches = loop.max_iters
        if isinstance(loop, ResumableEpochs):
            batches = len(self.train_dataloader)
            iteration, notice = place_in_training(meta, batches)
            if notice:
                self.logger.warning(notice)
            loop.start_at(iteration)
        notice = schedule.take_effect(changes, loop.iter, batches)
        if notice:
            self.logger.warning(notice)
        self._say_if_finished(str(filename))

    def _say_if_finished(self, path: str) -> None:
        key = 'max_epochs' if isinstance(self.train_loop, EpochBasedTrainLoop) else 'max_iters'
        length = getattr(self.train_loop, key)
        if done(self.train_loop) >= length:
            self.logger.warning(
                f'{path}: this training is finished ({key.removeprefix("max_")}: {length}). To '
                f'extend it: --resume --cfg-options train_cfg.{key}=N, and the schedule where it '
                'should go on, see docs/your_config.md'
            )

    def load_checkpoint(self, filename: str, *args, **kwargs) -> dict:
        """Load the weights to start or go on from.

        The file is of the same kind of model or of one network (see
        :func:`~hsakd.utils.checkpoint.network_state_dict`), which then goes to every network under
        training. The backbone has to fit whole; of the rest what fits is loaded and what does not
        is reported, such as the head where the classes are others.

        Other arguments of mmengine's have no effect; the file is read to the CPU.

        Raises:
            CheckpointError: The file is missing or broken, would execute code, or does not fit.
        """
        checkpoint = dict(self._read(filename, 'load_from'))
        key = 'resume' if self._resume else 'load_from'
        self.trained_with = TrainedWith.of(checkpoint, f'{key}={str(filename)!r}')
        meta = checkpoint_meta(checkpoint)  # mmengine's resume runs meta.config
        checkpoint['meta'] = {key: value for key, value in meta.items() if key != 'config'}
        model = unwrap(self.model)
        checkpoint['state_dict'] = starting_weights(model, checkpoint, str(filename))
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        load_what_fits(model, checkpoint['state_dict'], str(filename), self.logger)
        self._has_loaded = True
        return checkpoint

    def _read(self, path: str, key: str) -> Mapping:
        """The content of a checkpoint, unless it was read before."""
        before, self.checkpoint = self.checkpoint, None
        return before[1] if before and before[0] == str(path) else read_checkpoint(path, key)


class TestingRunner(DistillationRunner):
    """The runner of a test, which needs no training data."""

    of_training_data = False

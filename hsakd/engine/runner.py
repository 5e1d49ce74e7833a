import logging
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.dist import is_distributed
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from hsakd.utils.checkpoint import (
    checkpoint_weights,
    describe_mismatch,
    network_state_dict,
    read_checkpoint,
)
from hsakd.utils.errors import CheckpointError

from .pretrained_backbone import KEY, RANDOM, load_pretrained_backbone

# What mmengine says of its own internals.
_NOISE = (
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'Distributed training is not used',
)

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

    def setup_env(self, env_cfg: dict) -> None:
        """mmengine's, and gloo between processes where there is no accelerator."""
        if self.launcher == 'pytorch' and not torch.accelerator.is_available():
            # mmengine's own way selects a CUDA device first.
            if not is_distributed():
                torch.distributed.init_process_group('gloo')
        super().setup_env(env_cfg)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """mmengine's, which takes a CUDA device for granted where the config names no wrapper."""
        on_cpu = self.distributed and not torch.accelerator.is_available()
        if on_cpu and model_wrapper_cfg is None:
            return MMDistributedDataParallel(module=model, broadcast_buffers=False)
        return super().wrap_model(model_wrapper_cfg, model)

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

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Go on from a checkpoint.

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

    def load_or_resume(self) -> None:
        """mmengine's, with a word where there is nothing to resume."""
        nothing = not (Path(self.work_dir) / 'last_checkpoint').is_file()
        if self._resume and self._load_from is None and nothing:
            self.logger.warning(
                f'--resume: no checkpoint in {self.work_dir}; training starts from scratch'
            )
            return
        super().load_or_resume()

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
        checkpoint = read_checkpoint(filename, 'load_from')
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

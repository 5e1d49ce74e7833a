import logging

import torch
from mmengine.dist import is_distributed
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from hsakd.utils.checkpoint import describe_mismatch, read_checkpoint
from hsakd.utils.errors import CheckpointError

# What mmengine says of its own internals.
_NOISE = (
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'Distributed training is not used',
)


def _for_terminal(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    if message.startswith(_NOISE):
        return False
    return record.levelno >= logging.WARNING or message.count('\n') < 3


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

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Go on from a checkpoint.

        Raises:
            CheckpointError: Its weights are not exactly those of the model.
        """
        found = read_checkpoint(filename, 'resume').get('state_dict', {})
        model = self.model.module if is_model_wrapper(self.model) else self.model
        mismatch = describe_mismatch(model.state_dict(), found)
        if mismatch:
            raise CheckpointError(
                f'resume={str(filename)!r} does not fit the model of the config, a '
                f'{type(model).__name__}: {mismatch}'
            )
        super().resume(filename, *args, **kwargs)

    def load_checkpoint(self, filename: str, *args, **kwargs) -> dict:
        """Load weights; mmengine warns of those that do not fit.

        Raises:
            CheckpointError: The file is missing or broken, or would execute code.
        """
        read_checkpoint(filename, 'load_from')
        return super().load_checkpoint(filename, *args, **kwargs)


def console_handlers(logger: logging.Logger) -> list[logging.Handler]:
    """The handlers of a logger that write to the terminal."""
    return [
        handler
        for handler in logger.handlers
        if isinstance(handler, logging.StreamHandler)
        and not isinstance(handler, logging.FileHandler)
    ]

import logging

from mmengine.logging import MMLogger
from mmengine.runner import Runner

# What mmengine says of its own internals.
_NOISE = ('"FileClient" will be deprecated', '"HardDiskBackend" is the alias')


def _for_terminal(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    if record.levelno >= logging.WARNING:
        return not message.startswith(_NOISE)
    return message.count('\n') < 3


class QuietRunner(Runner):
    """mmengine's runner, with a terminal that can be read.

    The config, the environment and the list of hooks go to the log file alone.
    """

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Mmengine's logger, with a filter on its console handler."""
        logger = super().build_logger(*args, **kwargs)
        for handler in console_handlers(logger):
            handler.addFilter(_for_terminal)
        return logger


def console_handlers(logger: logging.Logger) -> list[logging.Handler]:
    """The handlers of a logger that write to the terminal."""
    return [
        handler
        for handler in logger.handlers
        if isinstance(handler, logging.StreamHandler)
        and not isinstance(handler, logging.FileHandler)
    ]

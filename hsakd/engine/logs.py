"""What of a run's log goes to the terminal."""

import logging

# What mmengine says of its own internals.
_NOISE = (
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'Distributed training is not used',
    'Resumed iteration number is not divisible by',  # gradients are in our checkpoints
)


def for_terminal(record: logging.LogRecord) -> bool:
    """Whether a message goes to the terminal; long ones do if they are a metric's table."""
    message = record.getMessage()
    if message.startswith(_NOISE):
        return False
    table = '+---' in message or 'Average Precision' in message  # of a metric of mmdet
    return record.levelno >= logging.WARNING or message.count('\n') < 3 or table


def console_handlers(logger: logging.Logger) -> list[logging.Handler]:
    """The handlers of a logger that write to the terminal."""
    return [
        handler
        for handler in logger.handlers
        if isinstance(handler, logging.StreamHandler)
        and not isinstance(handler, logging.FileHandler)
    ]

"""What of a run's log goes to the terminal."""

import logging

# What mmengine says of its own internals.
_NOISE = (
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'Distributed training is not used',
    'Resumed iteration number is not divisible by',  # gradients are in our checkpoints
)
# Of many lines, for the log file alone: before each run, and of what went wrong with one.
_LONG_NOISE = (
    'Config:',
    'System environment:',
    'Hooks will be executed in the following order:',
    'Traceback (most recent call last):',
)


def for_terminal(record: logging.LogRecord) -> bool:
    """Whether a message goes to the terminal: results, of any length, and all warnings do."""
    message = record.getMessage()
    if message.startswith(_NOISE):
        return False
    is_noise = message.lstrip('\n-').startswith(_LONG_NOISE)
    return record.levelno >= logging.WARNING or not is_noise


def console_handlers(logger: logging.Logger) -> list[logging.Handler]:
    """The handlers of a logger that write to the terminal."""
    return [
        handler
        for handler in logger.handlers
        if isinstance(handler, logging.StreamHandler)
        and not isinstance(handler, logging.FileHandler)
    ]

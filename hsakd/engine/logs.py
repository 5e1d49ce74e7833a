"""What of a run's log goes to the terminal."""

import logging
import re
import sys

# What mmengine says of its own internals.
_NOISE = (
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'Distributed training is not used',
    'Resumed iteration number is not divisible by',  # gradients are in our checkpoints
    'backbone out_',  # of each network of timm
    # What ProgressHook says in fewer words, or at the start and the end.
    'Exp name: ',
    'Epoch(train)',
    'Iter(train)',
    'Checkpoints will be saved to ',
    'Saving checkpoint at ',
    'The best checkpoint with ',
    'The previous best checkpoint ',
)
# A line within a validation or test, which has no metrics.
_is_within = re.compile(r'(Epoch|Iter)\((val|test)\) .*\]\s+eta: ').match
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
    if message.startswith(_NOISE) or _is_within(message):
        return False
    is_noise = message.lstrip('\n-').startswith(_LONG_NOISE)
    return record.levelno >= logging.WARNING or not is_noise


class _StandardOutput:
    """What ``sys.stdout`` is whenever something is written."""

    def __getattr__(self, name: str) -> object:
        return getattr(sys.stdout, name)


def set_up_console(logger: logging.Logger) -> None:
    """Filter what of a log goes to the terminal, and let a display there keep its place below."""
    for handler in logger.handlers:
        if type(handler) is logging.StreamHandler:
            handler.addFilter(for_terminal)
            handler.setStream(_StandardOutput())

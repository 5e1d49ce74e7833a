"""Errors that a user can cause and mend: one clear message, no traceback."""


class UserError(Exception):
    """Something the user gave is wrong.

    The message says what was wrong, where (config key or file), what was found and what would be
    accepted. The command-line tools print it alone and exit with status 1.
    """


class ConfigError(UserError, ValueError):
    """A config key has an unusable value."""


class CheckpointError(UserError):
    """A checkpoint file is missing, broken, or does not fit the model."""


class DataError(UserError):
    """A data file or folder is missing, empty or broken."""


class NonFiniteLossError(UserError):
    """A loss became NaN or infinite."""


class ProcessError(UserError):
    """Another process of a distributed run ended."""


class Preempted(Exception):
    """A training was asked to stop, and saved its state; the tools exit with status 75."""

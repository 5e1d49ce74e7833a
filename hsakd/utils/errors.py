"""Errors that a user can cause and mend: one clear message, no traceback."""

from typing import Self

#: Exit status of a training that a scheduler asked to stop: start it again with --resume.
EX_PREEMPTED = 75


class UserError(Exception):
    """Something the user gave is wrong.

    The message says where (config key or file), what was expected and what was found. The
    command-line tools print it alone and exit with status 1.
    """

    @classmethod
    def expected(cls, where: str, expected: str, got: object) -> Self:
        """The error ``WHERE: expected EXPECTED, got GOT``.

        Args:
            where: Config key, option or file at fault.
            expected: What is accepted there.
            got: What was found; shown by ``str``.
        """
        return cls(f'{where}: expected {expected}, got {got}')

    @classmethod
    def check(cls, ok: object, where: str, expected: str, got: object) -> None:
        """Raise :meth:`expected` unless ``ok`` is true."""
        if not ok:
            raise cls.expected(where, expected, got)


class ConfigError(UserError, ValueError):
    """A config key has an unusable value."""


class CheckpointError(UserError):
    """A checkpoint file is missing, broken, or does not fit the model."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint file is missing or not as it was written."""


class DataError(UserError):
    """A data file or folder is missing, empty or broken."""


class NonFiniteLossError(UserError):
    """A loss became NaN or infinite."""


class ProcessError(UserError):
    """Another process of a distributed run ended."""


class Preempted(Exception):
    """A training was asked to stop, and saved its state.

    Args:
        message: Where, and how to go on.
        status: That the tools exit with.
    """

    def __init__(self, message: str, status: int = EX_PREEMPTED) -> None:
        super().__init__(message)
        self.status = status

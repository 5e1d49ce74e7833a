"""What goes wrong around a run, said in one line."""

import contextlib
import errno
import logging
import multiprocessing
import re
import signal
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

from mmengine.logging import MMLogger
from mmengine.runner import ValLoop

from hsakd.utils.errors import DataError, ProcessError, UserError

#: What torch says of its loader's workers, and what there is to do.
_LOADER = {
    r'DataLoader timed out after ([\d.]+) seconds': (
        'a batch in time, got none in {} s: the disk or a transform hangs, or takes longer; try '
        'a larger LOADER.timeout (0 waits for ever), or LOADER.num_workers=0 to see where'
    ),
    r'DataLoader worker \(pid \d+\) is killed by signal: (Killed)': (
        'workers that live, got one that was killed, by the kernel for want of memory perhaps; '
        'try a smaller LOADER.num_workers or LOADER.batch_size, or more memory'
    ),
    r'DataLoader worker \(pid \d+\) is killed by signal: (Bus error)': (
        'enough shared memory (/dev/shm), got a bus error in a worker; try a larger one, or '
        'LOADER.num_workers=0'
    ),
    r'DataLoader worker \(pid\(?s?\)? [\d, ]+\) (exited unexpectedly|is killed by signal: .*)': (
        'workers that live, got one that ended ({}); try LOADER.num_workers=0 to see why'
    ),
}
#: What torch says where another process of the training is gone.
_PEER = re.compile(r'[Cc]onnection (?:was )?(?:closed|reset) by (?:remote )?peer|Broken pipe')


@contextlib.contextmanager
def described(loader: str) -> Iterator[None]:
    """Report what workers, other processes and the disk do to this one.

    Args:
        loader: Config key of the loader in use, besides that of validation in training.

    Raises:
        DataError: A worker is gone, or no batch came in time.
        ProcessError: Another process of the training is gone.
        UserError: The disk is full.
    """
    with _failing_logs() as logs:
        try:
            yield
        except RuntimeError as error:
            said_by_torch = f'{error.__cause__} {error}'  # the signal may be in the cause alone
            for pattern, advice in _LOADER.items():
                found = re.search(pattern, said_by_torch)
                if found:
                    _kill_workers()
                    used = _loader_in_use(error) or loader
                    said = advice.format(found[1]).replace('LOADER', used)
                    raise DataError(f'{used}: expected {said}') from error
            if _PEER.search(str(error)):
                raise ProcessError(
                    'another process of this training ended; its own message tells why'
                ) from error
            raise
        except OSError as error:
            if not _is_full(error):
                raise
            raise UserError(
                f'{error.filename or logs} cannot be written: {error.strerror}; free some space; '
                'training goes on from its last checkpoint with --resume'
            ) from error


@contextlib.contextmanager
def _failing_logs() -> Iterator[str]:
    """A log that cannot be written is an error of the caller, and not a traceback for each line.

    Yields:
        Where the logs of the run are, for messages.
    """

    def fail(record: logging.LogRecord) -> None:
        raise  # noqa: PLE0704  what the handler is at

    def of_thread(failure: threading.ExceptHookArgs) -> None:
        if not (isinstance(failure.exc_value, OSError) and _is_full(failure.exc_value)):
            thread_hook(failure)

    handlers = [
        handler
        for handler in MMLogger.get_current_instance().handlers
        if isinstance(handler, logging.FileHandler)
    ]
    for handler in handlers:
        handler.handleError = fail
    # TensorBoard's thread prints what it also raises in this one.
    thread_hook, threading.excepthook = threading.excepthook, of_thread
    folders = sorted({str(Path(handler.baseFilename).parent) for handler in handlers})
    try:
        yield f'a log in {" and ".join(folders)}' if folders else 'a log'
    finally:
        threading.excepthook = thread_hook
        for handler in handlers:
            del handler.handleError


def _is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _loader_in_use(error: RuntimeError) -> str | None:
    """Return the key of validation's loader, where the error comes from within it."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    validates = any(isinstance(frame.f_locals.get('self'), ValLoop) for frame in frames)
    return 'val_dataloader' if validates else None


def _kill_workers() -> None:
    """End all workers of loaders; torch waits five seconds for each of them that hangs."""
    in_main = threading.current_thread() is threading.main_thread()
    watch = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if in_main else None  # torch's: it raises
    workers = [child for child in multiprocessing.active_children() if child.daemon]
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join(5)
    if in_main:
        signal.signal(signal.SIGCHLD, watch)

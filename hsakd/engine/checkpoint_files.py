"""Checkpoint files that are whole whenever they are there."""

import errno
import fcntl
import os
import re
import socket
from contextlib import suppress
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from hsakd.utils.checkpoint import read_checkpoint
from hsakd.utils.errors import CheckpointError, ConfigError, DamagedCheckpointError

#: The file in a work dir that names the checkpoint to resume from.
POINTER = 'last_checkpoint'
#: The checkpoint of a training that was asked to stop.
INTERRUPTED = 'interrupted.pth'
#: Made when a training starts, and gone when it points to a checkpoint: what a pointer says until
#: then is of an earlier training.
STARTING = '.starting'
#: Locked by the process that trains in a work dir, whose number and host are in it.
LOCK = '.lock'
_numbered = re.compile(r'(epoch|iter)_(\d+)\.pth').fullmatch

#: ``backend_args`` of mmengine's, for checkpoints.
BACKEND = dict(backend='hsakd_atomic')


@register_backend('hsakd_atomic')
class AtomicBackend(LocalBackend):
    """A backend for local files whose ``put`` replaces a file whole or not at all."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write under a temporary name, wait for the disk, and rename.

        Raises:
            CheckpointError: It cannot be written, e.g. since the disk is full; what was there is
                still there.
        """
        path = Path(filepath)
        temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise CheckpointError.expected(
                str(path),
                f'{len(obj):,} free bytes' if full else 'a folder that can be written to',
                f'{error.strerror}; earlier checkpoints are as they were: go on with --resume',
            ) from error

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write a text as :meth:`put` writes bytes."""
        self.put(obj.encode(encoding), filepath)


def _sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def claim(work_dir: str | Path) -> None:
    """Keep other trainings out of a work dir while this process lives.

    The lock ends with the process, however it ends, and is not inherited by workers. File systems
    without locks keep nothing out.

    Raises:
        ConfigError: Another process trains there.
    """
    with suppress(OSError):
        file = os.open(Path(work_dir) / LOCK, os.O_RDWR | os.O_CREAT, 0o644)  # never closed
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, by the system
            found = os.read(file, 200).decode(errors='replace') or 'another process'
            where, expected = f'work dir {str(work_dir)!r}', 'one in which nothing is being trained'
            raise ConfigError.expected(where, expected, f'{found} at work in it') from None
        os.truncate(file, 0)
        os.write(file, f'process {os.getpid()} of {socket.gethostname()}'.encode())


def point_to(checkpoint: str | Path, work_dir: str | Path) -> None:
    """Make ``checkpoint`` the one to resume from; an older temporary file of a kill is removed."""
    AtomicBackend().put_text(str(checkpoint), Path(work_dir) / POINTER)
    (Path(work_dir) / STARTING).unlink(missing_ok=True)
    for left in Path(work_dir).glob('.*.tmp'):
        left.unlink(missing_ok=True)


def last_whole_checkpoint(work_dir: str | Path) -> tuple[Path | None, dict | None, str]:
    """The checkpoint of a work dir to resume from; None if training there never saved one.

    It is the one that ``last_checkpoint`` names or, where that is not whole, the newest whole one
    of fewer epochs or iterations. A work dir may have been moved or copied with its checkpoints.

    Returns:
        The file, its content, and why it is not the last one, if so.

    Raises:
        CheckpointError: None of them is whole.
    """
    pointer = Path(work_dir) / POINTER
    if not pointer.is_file():
        return None, None, ''
    named = Path(pointer.read_text(errors='replace').strip())
    if (Path(work_dir) / named.name).is_file() or not named.is_file():
        named = Path(work_dir) / named.name
    others = _earlier(named, {Path(work_dir), named.parent})
    faults = []
    for path in (named, *others):
        try:
            content = read_checkpoint(path, '--resume')
        except DamagedCheckpointError as error:
            faults.append(str(error))
        else:
            instead = f'resuming from {str(path)!r} instead of {"; ".join(faults)}'
            return path, content, instead if faults else ''
    raise CheckpointError.expected(
        '--resume',
        f'a whole checkpoint in {str(work_dir)!r}, --resume CHECKPOINT, or training from the start '
        'without --resume',
        '; '.join(faults),
    )


def _earlier(checkpoint: Path, folders: set[Path]) -> list[Path]:
    """Checkpoints with optimizer and schedules of less training, the most trained first.

    More training than that of the last one would be of another run in the same folder.
    """
    found = _numbered(checkpoint.name)
    others = {}
    for path in (path for folder in folders for path in folder.glob('*.pth')):
        other = _numbered(path.name)
        if other and (found is None or (other[1] == found[1] and int(other[2]) < int(found[2]))):
            others[path] = int(other[2])
    return sorted(others, key=others.get, reverse=True)

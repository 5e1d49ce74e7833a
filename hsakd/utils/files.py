"""Files out: whole or not at all, and never over another's content."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .errors import UserError


def write_files(files: Mapping[str | Path, bytes], force: bool = False) -> None:
    """Write files, each under a temporary name first, after all were found to be free.

    A file that already has the content is left as it is.

    Args:
        files: Content by path. Missing folders are made.
        force: Replace files of other content.

    Raises:
        UserError: A file of other content exists, or a folder cannot be written to.
    """
    pending = {}
    for name, content in files.items():
        path = Path(name).expanduser()
        UserError.check(not path.is_dir(), f'{str(path)!r}', 'the name of a file', 'a folder')
        if not path.is_file() or path.read_bytes() != content:
            free = force or not path.is_file()
            UserError.check(
                free, f'{str(path)!r}', 'a new name, or --force to replace it', 'a file'
            )
            pending[path] = content
    for path, content in pending.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, content)
        except OSError as error:
            raise UserError(f'{str(path)!r} cannot be written: {error.strerror}') from error


def _write(path: Path, content: bytes) -> None:
    umask = os.umask(0)
    os.umask(umask)
    handle, temporary = tempfile.mkstemp(prefix=f'.{path.name}.', dir=path.parent)
    try:
        with os.fdopen(handle, 'wb') as file:
            file.write(content)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp's file is for its owner only
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise

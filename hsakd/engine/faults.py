"""What goes wrong around a run, said in one line."""

import contextlib
import re
from collections.abc import Iterator

from hsakd.utils.errors import DataError, ProcessError

#: What torch says of its loader's workers, and what there is to do.
_LOADER = {
    r'DataLoader timed out after ([\d.]+) seconds': (
        'no batch came for {} s: the disk or a transform hangs, or takes longer; accepted are '
        'a larger LOADER.timeout (0 waits for ever) and LOADER.num_workers=0 to see where'
    ),
    r'DataLoader worker \(pid \d+\) is killed by signal: (Killed)': (
        'a worker of the loader was killed, by the kernel for want of memory perhaps; accepted '
        'are a smaller LOADER.num_workers or LOADER.batch_size, and more memory'
    ),
    r'DataLoader worker \(pid \d+\) is killed by signal: (Bus error)': (
        'a worker of the loader got a bus error: the shared memory (/dev/shm) is full perhaps; '
        'accepted are a larger one, and LOADER.num_workers=0'
    ),
    r'DataLoader worker \(pid\(?s?\)? [\d, ]+\) (exited unexpectedly|is killed by signal: .*)': (
        'a worker of the loader ended ({}); accepted is LOADER.num_workers=0 to see why'
    ),
}
#: What torch says where another process of the training is gone.
_PEER = re.compile(r'[Cc]onnection (?:was )?(?:closed|reset) by (?:remote )?peer|Broken pipe')


@contextlib.contextmanager
def described(loader: str) -> Iterator[None]:
    """Report what workers and other processes do to this one.

    Args:
        loader: Config key of the loader in use.

    Raises:
        DataError: A worker is gone, or no batch came in time.
        ProcessError: Another process of the training is gone.
    """
    try:
        yield
    except RuntimeError as error:
        for pattern, advice in _LOADER.items():
            found = re.search(pattern, str(error))
            if found:
                said = advice.format(found[1]).replace('LOADER', loader)
                raise DataError(f'{loader}: {said}') from error
        if _PEER.search(str(error)):
            raise ProcessError(
                'another process of this training ended; its own message tells why'
            ) from error
        raise

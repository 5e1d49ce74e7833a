"""yapf, which mmengine formats configs with, without its cache of grammars.

yapf 0.43 renames a cache file into place before its content is flushed, so that a process that
starts meanwhile, such as the next of several on a node, finds an empty file and fails with
``EOFError``; if the writer is killed then, so does every later process. Generating the grammars
takes 20 ms.
"""

import contextlib
import os
from unittest import mock


def install() -> None:
    """Import yapf with nowhere to keep its grammars."""
    with contextlib.suppress(ModuleNotFoundError):  # a yapf without a cache, or none
        # In a folder that can't be made; yapf goes on without one.
        with mock.patch('platformdirs.user_cache_dir', return_value=os.devnull):
            import yapf  # noqa: F401

"""What a process needs before it trains, tests or reads files of others."""

import contextlib
import functools
import os
import warnings
from unittest import mock

from hsakd import registry

from . import checkpoint_schemes, mmcv_ext


@functools.cache
def setup() -> None:
    """Set up this process, once.

    Checkpoints that mmengine loads are read without executing anything; torchvision's operators
    stand in for those of mmcv where they are not compiled; types are found in any scope; yapf works
    without its cache; and torch does not warn, for every loader of every run, that there are fewer
    cores than workers.
    """
    warnings.filterwarnings('ignore', 'This DataLoader will create', UserWarning)
    checkpoint_schemes.install()
    mmcv_ext.install()
    registry.install()
    _import_yapf()


def _import_yapf() -> None:
    """Import yapf, which mmengine formats configs with, without its cache of grammars.

    yapf 0.43 renames a cache file into place before its content is flushed, so that a process that
    starts meanwhile, such as the next of several on a node, finds an empty file and fails with
    ``EOFError``; if the writer is killed then, so does every later process. Generating the grammars
    takes 20 ms.
    """
    with contextlib.suppress(ModuleNotFoundError):  # a yapf without a cache, or none
        # In a folder that cannot be made; yapf goes on without one.
        with mock.patch('platformdirs.user_cache_dir', return_value=os.devnull):
            import yapf  # noqa: F401

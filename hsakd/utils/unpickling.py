"""Pickles of others, read without executing anything: arrays, plain data, and no more."""

import pickle
from typing import BinaryIO

_ALLOWED = {
    ('_codecs', 'encode'),
    ('numpy', 'ndarray'),
    ('numpy', 'dtype'),
    *(
        (f'numpy.{core}.multiarray', name)
        for core in ('core', '_core')
        for name in ('_reconstruct', 'scalar')
    ),
}


def load_pickle(file: BinaryIO, encoding: str = 'ASCII') -> object:
    """Read a pickle that holds arrays and plain Python values.

    ``torch.load`` with ``weights_only`` reads files of ``torch.save`` alone; this is for those that
    ``pickle.dump`` wrote.

    Args:
        file: Opened for reading bytes.
        encoding: Of strings that Python 2 wrote.

    Raises:
        pickle.UnpicklingError: Reading would call something else, which the message names.
    """
    return _Unpickler(file, encoding=encoding).load()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f'it would call {module}.{name}')
        return super().find_class(module, name)

"""Checkpoints in: read without executing anything, and loaded whole or not at all."""

import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor, nn

from .errors import CheckpointError


def _history_method(owner: type, name: str) -> object:
    """Stands in for ``getattr``, by which pickled log histories refer to their statistics.

    The real one would reach anything from a class.
    """
    if owner is not HistoryBuffer or name not in ('min', 'max', 'mean', 'current', 'statistics'):
        raise pickle.UnpicklingError(f'GLOBAL getattr({owner!r}, {name!r})')
    return getattr(owner, name)


#: What mmengine's own checkpoints hold beside tensors and plain Python: the log's history.
_SAFE_GLOBALS = [
    (_history_method, 'builtins.getattr'),
    HistoryBuffer,
    np.ndarray,
    np.dtype,
    np._core.multiarray._reconstruct,
    np._core.multiarray.scalar,
    np.dtypes.Float64DType,
    np.dtypes.Int64DType,
]

#: Where our training checkpoints keep the network that a reader wants.
_PREFIXES = ('', 'module.', 'student.', 'networks.0.')


def read_checkpoint(path: str | Path, key: str) -> dict:
    """The content of a checkpoint file, read with ``weights_only``.

    Args:
        path: The file.
        key: The config key or option that named it, for messages.

    Raises:
        CheckpointError: The file is missing, truncated, or holds more than tensors and plain data.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        found = 'a folder' if path.is_dir() else 'no such file'
        raise CheckpointError(f'{key}={str(path)!r}: {found}; accepted is a checkpoint (.pth) file')
    try:
        with torch.serialization.safe_globals(_SAFE_GLOBALS):
            return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        called = re.search(r'GLOBAL (\S+)', str(error))
        if called or zipfile.is_zipfile(path):
            raise CheckpointError(
                f'{key}={str(path)!r}: refused, since reading it would execute code'
                f'{f" ({called[1]})" if called else ""}; accepted are files that hold tensors and '
                'plain data'
            ) from error
        raise CheckpointError(_broken(key, path)) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(_broken(key, path)) from error


def network_state_dict(checkpoint: Mapping, path: str | Path, key: str) -> dict[str, Tensor]:
    """The state dict of one network (``backbone.*``, ``head.*``, ...) in a checkpoint of ours.

    Args:
        checkpoint: What :func:`read_checkpoint` gave: of a plain network, of a teacher, of an
            offline distiller (its student) or of an online one (its first network).
        path: Where it came from, for messages.
        key: The config key or option that named it, for messages.

    Raises:
        CheckpointError: There is none.
    """
    content = checkpoint if isinstance(checkpoint, Mapping) else {}
    weights = content.get('state_dict', content)
    weights = weights if isinstance(weights, Mapping) else {}
    weights = {str(name): value for name, value in weights.items()}
    for prefix in _PREFIXES:
        if any(name.startswith(f'{prefix}backbone.') for name in weights):
            return {
                name.removeprefix(prefix): value
                for name, value in weights.items()
                if name.startswith(prefix) and isinstance(value, Tensor)
            }
    found = ', '.join(map(str, list(content)[:4])) or type(checkpoint).__name__
    raise CheckpointError(
        f'{key}={str(path)!r}: no network in it (found: {found}, ...); accepted are checkpoints of '
        'tools/train.py and of tools/model_converters/convert_official.py, which converts those '
        "of the paper's authors"
    )


def load_network(
    network: nn.Module, path: str | Path, key: str, parts: Sequence[str] = ()
) -> None:
    """Load every weight of ``network``, or of parts of it, from a checkpoint, or none.

    Args:
        network: A :class:`~hsakd.models.BranchedClassifier`.
        path: The checkpoint.
        key: The config key that named it, for messages.
        parts: Load these alone, e.g. ``('backbone', 'head')``, and leave the others as they are.

    Raises:
        CheckpointError: The checkpoint does not fit; the message names what differs.
    """
    state_dict = network_state_dict(read_checkpoint(path, key), path, key)
    wanted = network.state_dict()
    if parts:
        wanted = {k: v for k, v in wanted.items() if k.split('.')[0] in parts}
        state_dict = {k: v for k, v in state_dict.items() if k.split('.')[0] in parts}
    mismatch = describe_mismatch(wanted, state_dict)
    if mismatch:
        backbone = type(network.backbone).__name__
        raise CheckpointError(
            f'{key}={str(path)!r} does not fit the network of the config, a {backbone} with '
            f'{network.num_branches} branches and {network.head.num_classes} classes: {mismatch}'
        )
    network.load_state_dict(state_dict, strict=not parts)


def describe_mismatch(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """What keeps ``found`` from loading into ``wanted``; empty if nothing does."""
    head = 'head.fc.weight'
    if head in wanted and head in found and len(wanted[head]) != len(found[head]):
        return (
            f'the checkpoint has {len(found[head])} classes, the config {len(wanted[head])} '
            '(head.num_classes)'
        )
    missing = [key for key in wanted if key not in found]
    unexpected = [key for key in found if key not in wanted]
    shapes = [
        f'{key} {tuple(found[key].shape)} instead of {tuple(wanted[key].shape)}'
        for key in wanted
        if key in found and found[key].shape != wanted[key].shape
    ]
    parts = [
        f'{len(keys)} {what}: {", ".join(keys[:3])}{", ..." if len(keys) > 3 else ""}'
        for keys, what in (
            (missing, 'weights are missing from the checkpoint'),
            (unexpected, 'weights of the checkpoint have no place'),
            (shapes, 'weights have another shape'),
        )
        if keys
    ]
    return '; '.join(parts)


def _broken(key: str, path: Path) -> str:
    return (
        f'{key}={str(path)!r}: not a readable checkpoint ({path.stat().st_size} bytes), '
        'truncated perhaps; accepted is a whole file written by torch.save'
    )

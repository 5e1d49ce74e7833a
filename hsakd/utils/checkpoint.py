"""Checkpoints in: read without executing anything, and loaded whole or not at all."""

import argparse
import contextlib
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MMLogger
from torch import Tensor, nn

from .config_text import checkpoint_meta, parse_config
from .errors import CheckpointError, DamagedCheckpointError
from .networks import WEIGHT_PREFIXES, network_configs


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
    np.array(0).__reduce__()[0],  # what rebuilds arrays, and numbers
    np.float64(0).__reduce__()[0],
    *(type(np.dtype(name)) for name in ('bool', 'f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8')),
    *(type(np.dtype(name)) for name in ('u1', 'u2', 'u4', 'u8')),
    argparse.Namespace,  # options of a command line, which other projects keep with their weights
]


_trusting = False


@contextlib.contextmanager
def trust_checkpoints() -> Iterator[None]:
    """Within, files that :func:`read_checkpoint` would refuse are unpickled, code in them included.

    The log has a warning for each. Only for files of people that you trust with all that you may
    do on this machine.
    """
    global _trusting
    before, _trusting = _trusting, True
    try:
        yield
    finally:
        _trusting = before


def read_checkpoint(path: str | Path, key: str, map_location: object = 'cpu') -> dict:
    """The content of a checkpoint file, read with ``weights_only`` once its checksums are compared.

    Args:
        path: The file.
        key: The config key or option that named it, for messages.
        map_location: Of ``torch.load``.

    Raises:
        CheckpointError: The file is missing or damaged; or it holds more than tensors and plain
            data, outside of :func:`trust_checkpoints`.
    """
    CheckpointError.check(
        isinstance(path, str | Path), key, 'the path of a checkpoint (.pth) file', repr(path)
    )
    path = Path(path).expanduser()
    damage = checkpoint_damage(path)
    if damage:
        raise _broken(key, path, damage)
    try:
        with torch.serialization.safe_globals(_SAFE_GLOBALS):
            return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        if _trusting:
            return _unpickle(path, key, map_location)
        called = re.search(r'GLOBAL (\S+)', str(error))
        if called or zipfile.is_zipfile(path):
            raise CheckpointError(
                f'{key}={str(path)!r}: refused, since reading it would execute code'
                f'{f" ({called[1]})" if called else ""}: expected a file that holds tensors and '
                'plain data, or with --trust-checkpoint any file of someone you trust'
            ) from error
        raise _broken(key, path) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        raise _broken(key, path) from error


def _unpickle(path: Path, key: str, map_location: object) -> dict:
    MMLogger.get_current_instance().warning(
        f'{key}={str(path)!r}: trusted, and the code in it is executed (--trust-checkpoint)'
    )
    try:
        return torch.load(path, map_location=map_location, weights_only=False)
    except Exception as error:  # whatever the code in it raises
        raise CheckpointError.expected(
            f'{key}={str(path)!r}',
            'a whole file of torch.save, with the modules of its classes installed',
            f'{type(error).__name__}: {error}',
        ) from error


def checkpoint_damage(path: str | Path) -> str:
    """What shows that a checkpoint file is not as it was written; empty if nothing does.

    torch.save stores a CRC-32 of each record, which torch.load does not compare. Files from before
    PyTorch 1.6 have none; of these only the first byte is looked at.
    """
    if Path(path).is_dir():
        return 'a folder'
    try:
        with open(path, 'rb') as file:
            start = file.read(4)
            if not zipfile.is_zipfile(file):
                if start == b'PK\x03\x04':
                    return 'truncated perhaps: its end, a table of contents, is missing'
                is_pickle = start[:1] == pickle.PROTO
                return '' if is_pickle else 'damaged: it starts like no file of torch.save'
            with zipfile.ZipFile(file) as archive:
                record = archive.testzip()
                records = archive.infolist()
        # Of a record marked as a folder, torch leaves the tensor as it finds it in memory.
        marked = any(info.external_attr & 0x10 for info in records)
        if marked or len({info.filename for info in records}) < len(records):
            return 'damaged: its table of contents is not one of torch.save'
        torch._C.PyTorchFileReader(str(path))  # which sees what zipfile forgives
    except FileNotFoundError:
        return 'no such file'
    except Exception as error:  # of many kinds, by where the damage is
        return f'damaged: {str(error).splitlines()[0] if str(error) else type(error).__name__}'
    return f'damaged: the checksum of its record {record} does not match' if record else ''


def network_state_dict(
    checkpoint: Mapping, path: str | Path, key: str, network: int | None = None
) -> dict[str, Tensor]:
    """The state dict of one network (``backbone.*``, ``head.*``, ...) in a checkpoint.

    Args:
        checkpoint: What :func:`read_checkpoint` gave: of a plain network, also one of mmpretrain's
            own, of a teacher, of an offline distiller (its student) or of an online one (its first
            network); or a ResNet, ResNeXt or Wide ResNet of torchvision's (``conv1.*``,
            ``layer1.*``, ..., ``fc.*``), which mmpretrain's ``ResNet`` and ``ResNeXt`` take.
        path: Where it came from, for messages.
        key: The config key or option that named it, for messages.
        network: Which network of an online distiller; the first by default.

    Raises:
        CheckpointError: There is none.
    """
    weights = with_counters(checkpoint_weights(checkpoint))
    if network is not None:
        found = sorted({name.split('.')[1] for name in weights if name.startswith('networks.')})
        CheckpointError.check(
            str(network) in found,
            f'{key}={str(path)!r}',
            f'network {network} in it',
            f'networks {", ".join(found)}' if found else 'no checkpoint of an online distiller',
        )
    for prefix in WEIGHT_PREFIXES if network is None else (f'networks.{network}.',):
        if any(name.startswith(f'{prefix}backbone.') for name in weights):
            return {
                name.removeprefix(prefix): value
                for name, value in weights.items()
                if name.startswith(prefix)
            }
    weights = {name.removeprefix('module.'): value for name, value in weights.items()}
    if is_torchvision_resnet(weights):
        return {f'{"head" if k[:3] == "fc." else "backbone"}.{k}': v for k, v in weights.items()}
    found = ', '.join(map(str, list(checkpoint)[:4])) if isinstance(checkpoint, Mapping) else ''
    raise CheckpointError.expected(
        f'{key}={str(path)!r}',
        'a network: a checkpoint of tools/train.py, a ResNet of torchvision, a classifier of '
        'mmpretrain, or what tools/model_converters/convert_official.py makes of those of the '
        "paper's authors",
        f'{found or type(checkpoint).__name__}, ...',
    )


def checkpoint_weights(checkpoint: object) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name: its ``state_dict`` or, where it has none, itself."""
    weights = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, Mapping) else {}
    weights = weights if isinstance(weights, Mapping) else {}
    return {str(name): value for name, value in weights.items() if isinstance(value, Tensor)}


def is_torchvision_resnet(weights: Mapping[str, Tensor]) -> bool:
    """Tell torchvision's from the ResNets for 32x32 images of others, which share some keys."""
    weights = {name.removeprefix('module.'): value for name, value in weights.items()}
    stem = weights.get('conv1.weight')
    return 'layer4.0.conv1.weight' in weights and stem is not None and stem.shape[2:] == (7, 7)


def with_counters(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add ``num_batches_tracked`` of batch norms, which files from before PyTorch 0.4.1 lack.

    Batch norm with a constant momentum never reads it.
    """
    norms = [name.removesuffix('running_mean') for name in weights if name[-13:] == '.running_mean']
    counters = {f'{norm}num_batches_tracked': torch.tensor(0) for norm in norms}
    return {**weights, **counters, **weights}  # in the order of the file


def load_network(
    network: nn.Module,
    path: str | Path,
    key: str,
    parts: Sequence[str] = (),
    checkpoint: Mapping | None = None,
) -> None:
    """Load every weight of ``network``, or of parts of it, from a checkpoint, or none.

    Args:
        network: A :class:`~hsakd.models.BranchedClassifier`.
        path: The checkpoint.
        key: The config key that named it, for messages.
        parts: Load these alone, e.g. ``('backbone', 'head')``, and leave the others as they are.
        checkpoint: Its content, where it was read already.

    Raises:
        CheckpointError: The checkpoint does not fit; the message names what differs.
    """
    checkpoint = checkpoint or read_checkpoint(path, key)
    state_dict = network_state_dict(checkpoint, path, key)
    wanted = network.state_dict()
    if parts:
        wanted = {k: v for k, v in wanted.items() if k.split('.')[0] in parts}
        state_dict = {k: v for k, v in state_dict.items() if k.split('.')[0] in parts}
    mismatch = describe_mismatch(wanted, state_dict)
    CheckpointError.check(
        not mismatch,
        f'{key}={str(path)!r}',
        f'weights of the network of the config, a {type(network.backbone).__name__} with '
        f'{network.num_branches} branches and {network.head.num_classes} classes',
        mismatch,
    )
    transforms = _logged_transforms(checkpoint)
    if transforms and network.num_branches and not parts:
        ours = type(network.transforms).__name__
        CheckpointError.check(
            transforms == ours,
            f'{key}={str(path)!r}',
            f'a network trained with the transforms {ours}',
            transforms,
        )
    network.load_state_dict(state_dict, strict=not parts)


def _logged_transforms(checkpoint: Mapping) -> str | None:
    """The type of the transforms of the network of a checkpoint, where its config tells."""
    try:
        model = parse_config(checkpoint_meta(checkpoint).get('cfg')).get('model')
        network = next(iter(network_configs(model).values()))
        return (network.get('transforms') or dict(type='Rotation'))['type'].split('.')[-1]
    except (SyntaxError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None  # no config of ours


def describe_mismatch(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """What keeps ``found`` from loading into ``wanted``; empty if nothing does."""
    counts = _counts(found), _counts(wanted)
    differing = [
        f'the checkpoint has {counts[0][what]} {what}, the config {counts[1][what]}'
        for what in counts[1]
        if counts[0][what] != counts[1][what] and None not in (counts[0][what], counts[1][what])
    ]
    if differing and 'classes' in differing[0]:
        return f'{differing[0]} (head.num_classes)'
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
    return '; '.join([*differing, *parts])


def _counts(weights: Mapping[str, Tensor]) -> dict[str, int | None]:
    """Classes, networks, branches and transforms, by names and shapes; None where none tell."""

    def numbers(pattern: str) -> set[str]:
        return {match[1] for name in weights if (match := re.search(pattern, name))}

    def rows(suffix: str) -> int | None:
        return next((len(w) for name, w in weights.items() if name.endswith(suffix)), None)

    classes, joint = rows('head.fc.weight'), rows('joint_heads.0.fc.weight')
    return dict(
        classes=classes,
        networks=len(numbers(r'^networks\.(\d+)\.')) or 1,
        branches=len(numbers(r'(?:^|\.)branches\.(\d+)\.')) if classes else None,
        transforms=joint // classes if joint and classes else None,
    )


def _broken(key: str, path: Path, damage: str = 'truncated perhaps') -> CheckpointError:
    where, expected = f'{key}={str(path)!r}', 'a whole checkpoint (.pth), as torch.save writes'
    return DamagedCheckpointError.expected(where, expected, damage)

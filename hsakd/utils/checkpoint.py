"""Checkpoints in: read without executing anything, and loaded whole or not at all."""

import argparse
import contextlib
import json
import os
import pickle
import re
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PosixPath

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MMLogger
from torch import Tensor, nn

from hsakd.commands import typed
from hsakd.results.names import find_configs

from .config_text import checkpoint_meta, parse_config
from .errors import CheckpointError, DamagedCheckpointError
from .foreign_keys import as_mmpretrain, as_timm_backbone, without_wrappers
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
    PosixPath,
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

    Of a safetensors file these are its tensors by name.

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
    if path.is_file() and _is_safetensors(path):
        return _read_safetensors(path, key, map_location)
    damage = checkpoint_damage(path)
    if damage:
        raise _broken(key, path, damage)
    if not _trusting:
        _check_no_program(path, key)
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
                'plain data, or with --trust-checkpoint any file of someone you trust, got '
                f'{"a pickled module" if _has_modules(path) else "another one"} '
                '(torch.save(module.state_dict(), FILE) writes weights alone)'
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


def _check_no_program(path: Path, key: str) -> None:
    """Name what torch writes that is no checkpoint."""
    names = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else []
    for part, what, weights in (
        ('/code/', 'a TorchScript archive', 'torch.jit.load(FILE).state_dict()'),
        ('/models/', 'a program of torch.export', 'torch.export.load(FILE).state_dict'),
    ):
        CheckpointError.check(
            not any(part in name for name in names),
            f'{key}={str(path)!r}',
            f'a checkpoint; torch.save({weights}, OTHER) writes its weights, where its owner is '
            'trusted',
            what,
        )


def _has_modules(path: Path) -> bool:
    """Whether layers of torch are pickled in a file."""
    try:
        found = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # a file from before PyTorch 1.6, or a damaged one
        return False
    return any(name.startswith('torch.nn.modules.') for name in found)


def _is_safetensors(path: Path) -> bool:
    """Whether a file is in that format, by its name or its start."""
    with open(path, 'rb') as file:
        start = file.read(10)
    return path.suffix == '.safetensors' or start[6:] == b'\0\0{"'


#: https://github.com/huggingface/safetensors: types of numbers that torch has.
_DTYPES = {
    'F64': torch.float64,
    'F32': torch.float32,
    'F16': torch.float16,
    'BF16': torch.bfloat16,
    'I64': torch.int64,
    'I32': torch.int32,
    'I16': torch.int16,
    'I8': torch.int8,
    'U8': torch.uint8,
    'BOOL': torch.bool,
}


def _read_safetensors(path: Path, key: str, map_location: object) -> dict[str, Tensor]:
    """Tensors by name: eight bytes say how long a JSON header is, which says where they are."""
    content = bytearray(path.read_bytes())
    length = int.from_bytes(content[:8], 'little')
    data = memoryview(content)[8 + length :]
    device = map_location if isinstance(map_location, str | torch.device) else 'cpu'
    tensors, end = {}, 0
    try:
        header = json.loads(content[8 : 8 + length])
        header.pop('__metadata__', None)
        for name, entry in header.items():
            start, stop = entry['data_offsets']
            dtype = _DTYPES[entry['dtype']]
            flat = torch.frombuffer(data[start:stop], dtype=dtype) if stop > start else []
            tensor = torch.as_tensor(flat, dtype=dtype).reshape(entry['shape'])
            tensors[name], end = tensor.to(device), max(end, stop)
        found = (
            f'a damaged one: {len(data)} bytes of tensors, and not {end}'
            if end != len(data)
            else ''
        )
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, RecursionError) as error:
        found = f'a damaged one: {type(error).__name__}: {error}'
    where = f'{key}={str(path)!r}'
    DamagedCheckpointError.check(not found, where, 'a whole safetensors file', found)
    return tensors


def checkpoint_damage(path: str | Path) -> str:
    """What shows that a checkpoint file is not as it was written; empty if nothing does.

    torch.save stores a CRC-32 of each record, which torch.load does not compare. Files from before
    PyTorch 1.6 have none; of these only the first byte is looked at.
    """
    if Path(path).is_dir():
        return 'a folder'
    if Path(path).suffix == '.onnx':
        return 'an ONNX model; the .pth is published beside it'
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
        return f'no such file{_trained_by(Path(path))}'
    except Exception as error:  # of many kinds, by where the damage is
        return f'damaged: {str(error).splitlines()[0] if str(error) else type(error).__name__}'
    return f'damaged: the checksum of its record {record} does not match' if record else ''


def _trained_by(path: Path) -> str:
    """The command that writes ``work_dirs/CONFIG[/seed-0]/epoch_240.pth``, if there is one."""
    names = [folder.name for folder in path.parents[:2] if folder.name]
    configs = [config for name in names for config in find_configs(name)]
    return f'; {typed("train")} {os.path.relpath(configs[0])} trains it' if configs else ''


def network_state_dict(
    checkpoint: Mapping,
    path: str | Path,
    key: str,
    network: int | None = None,
    wanted: Collection[str] = (),
) -> dict[str, Tensor]:
    """The state dict of one network (``backbone.*``, ``head.*``, ...) in a checkpoint.

    Args:
        checkpoint: What :func:`read_checkpoint` gave: of a plain network, also one of mmpretrain's
            own, of a teacher, of an offline distiller (its student) or of an online one (its first
            network); or one of torchvision's or timm's that :func:`as_mmpretrain` knows.
        path: Where it came from, for messages.
        key: The config key or option that named it, for messages.
        network: Which network of an online distiller; the first by default.
        wanted: Names of the weights of the network that it is for, if there is one; they tell
            whether that has a backbone of timm's.

    Raises:
        CheckpointError: There is none.
    """
    weights = with_counters(checkpoint_weights(checkpoint))
    official = any(name.startswith('auxiliary_classifier.') for name in weights)
    if network is not None:
        found = sorted({name.split('.')[1] for name in weights if name.startswith('networks.')})
        CheckpointError.check(
            str(network) in found,
            f'{key}={str(path)!r}',
            f'network {network} in it',
            f'networks {", ".join(found)}' if found else 'no checkpoint of an online distiller',
        )
    for prefix in WEIGHT_PREFIXES if network is None else (f'networks.{network}.',):
        if any(name.startswith(f'{prefix}backbone.') for name in weights) and not official:
            return {
                name.removeprefix(prefix): value
                for name, value in weights.items()
                if name.startswith(prefix)
            }
    known = as_timm_backbone(weights, wanted) or as_mmpretrain(weights)
    if known is not None:
        return known
    names = weights or (checkpoint if isinstance(checkpoint, Mapping) else ())
    found = ', '.join(map(str, list(names)[:4]))
    raise CheckpointError.expected(
        f'{key}={str(path)!r}',
        'a network: a checkpoint of tools/train.py, a classifier of mmpretrain, one of torchvision '
        'or timm of a family in docs/checkpoints.md, or what tools/model_converters/'
        "convert_official.py makes of those of the paper's authors",
        f'{found or type(checkpoint).__name__}, ...',
    )


#: Where others keep weights, moving averages first, as timm reads them.
_CONTAINERS = (
    'state_dict_ema',
    'model_ema',
    'state_dict',
    'model_state_dict',
    'model',
    'net',
    'network',
    'weights',
)


def checkpoint_weights(checkpoint: object) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name.

    They are those of its ``state_dict``, of what others call it (``model``, ``model_ema``, ..), or
    its own. Prefixes such as ``module.`` are left out, but for checkpoints of mmengine, whose names
    are those of the model.
    """
    of_mmengine = bool(checkpoint_meta(checkpoint))
    while isinstance(checkpoint, Mapping | nn.Module):
        if isinstance(checkpoint, nn.Module):  # of somebody who is trusted
            checkpoint = checkpoint.state_dict()
        found = (checkpoint.get(name) for name in _CONTAINERS)
        inner = next((part for part in found if isinstance(part, Mapping | nn.Module)), None)
        if inner is None:
            break
        checkpoint = inner
    weights = checkpoint if isinstance(checkpoint, Mapping) else {}
    weights = {str(name): value for name, value in weights.items() if isinstance(value, Tensor)}
    return weights if of_mmengine else without_wrappers(weights)


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
    state_dict = network_state_dict(checkpoint, path, key, wanted=network.state_dict())
    if not parts or 'head' in parts:
        network.settle_classes(number_of_classes(state_dict))
    wanted = network.state_dict()
    state_dict = without_classifier(state_dict, wanted)
    if parts:
        wanted = {k: v for k, v in wanted.items() if k.split('.')[0] in parts}
        state_dict = {k: v for k, v in state_dict.items() if k.split('.')[0] in parts}
    mismatch = describe_mismatch(wanted, state_dict)
    plain = not any(name.startswith('branches.') for name in state_dict)
    expected = (
        f'weights of the network of the config, a {type(network.backbone).__name__} with '
        f'{network.num_branches} branches'
    )
    if network.num_branches and not parts and plain:
        expected += (
            ', from an hsakd-teacher config or, for a plain network such as this one, from an '
            f'hsakd-teacher-frozen config with model.backbone_ckpt={str(path)!r}, which trains its '
            'branches'
        )
    elif mismatch and 'classes' in mismatch and 'head' in parts:
        expected += (
            '; of other classes it is trained on these first, by a baseline config with load_from='
            f'{str(path)!r}'
        )
    CheckpointError.check(not mismatch, f'{key}={str(path)!r}', expected, mismatch)
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


def without_classifier(weights: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
    """Weights without the fully connected layers in a VGG's backbone, unless they are wanted."""
    classifier = re.compile(r'(^|\.)backbone\.classifier\.').search
    return {k: value for k, value in weights.items() if k in wanted or not classifier(k)}


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


def number_of_classes(weights: Mapping[str, Tensor]) -> int | None:
    """The classes that the weights of a network tell; None where they do not."""
    return _counts(weights)['classes']


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

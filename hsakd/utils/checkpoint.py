"""Checkpoints in: read without executing anything, and loaded whole or not at all."""

import argparse
import contextlib
import json
import math
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
from .foreign_weights import foreign_network
from .networks import WEIGHT_PREFIXES, network_configs

#: Types of numbers by the names of safetensors.
_SAFETENSORS = {
    'F64': torch.float64, 'F32': torch.float32, 'F16': torch.float16, 'BF16': torch.bfloat16,
    'I64': torch.int64, 'I32': torch.int32, 'I16': torch.int16, 'I8': torch.int8,
    'U8': torch.uint8, 'BOOL': torch.bool,
}  # fmt: skip


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


#: Where the weights are in the checkpoints of others: mmengine, Lightning and timm; torchvision's
#: scripts; and so on. Averaged ones are taken where there are no others.
_WEIGHTS = (
    'state_dict', 'model', 'model_state_dict', 'model_state', 'net', 'network', 'weights',
    'state_dict_ema', 'model_ema',
)  # fmt: skip
#: What wrappers put before the names of weights.
_WRAPPERS = ('module.', 'model.', 'net.', 'network.')

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
    if path.suffix == '.safetensors':
        return _read_safetensors(path, key, map_location)
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
        what = _kind(path, called[1] if called else '')
        if called or zipfile.is_zipfile(path):
            raise CheckpointError(
                f'{key}={str(path)!r}: refused, since reading it would execute code'
                f'{f" ({called[1]})" if called else ""}: expected a file that holds tensors and '
                'plain data, or with --trust-checkpoint any file of someone you trust'
                f'{what}'
            ) from error
        raise _broken(key, path) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        what = _kind(path, '')
        if what:
            where, expected = f'{key}={str(path)!r}', 'a checkpoint with weights'
            raise CheckpointError.expected(where, expected, what.removeprefix('; ')) from error
        raise _broken(key, path) from error


def _kind(path: Path, called: str) -> str:
    """What a file is that was not made for its weights, and how to get them; empty if unknown."""
    with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        if any(name.endswith('constants.pkl') for name in archive.namelist()):
            return (
                '; a TorchScript archive, whose weights torch.save(torch.jit.load(FILE)'
                '.state_dict(), NEW_FILE) saves'
            )
    if called.rpartition('.')[2][:1].isupper() and not called.startswith(('collections', 'numpy')):
        return (
            f'; a whole module perhaps ({called}), pickled, whose weights torch.save('
            'model.state_dict(), NEW_FILE) saves'
        )
    return ''


def _read_safetensors(path: Path, key: str, map_location: object) -> dict:
    """The tensors of a file of safetensors: the length of a header in JSON, the header, the rest.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    try:
        content = path.read_bytes()
        start = 8 + int.from_bytes(content[:8], 'little')
        header = json.loads(content[8:start])
        tensors = {}
        for name, entry in header.items():
            if name != '__metadata__':
                first, last = (start + offset for offset in entry['data_offsets'])
                kind = _SAFETENSORS[entry['dtype']]
                data = torch.frombuffer(bytearray(content[first:last] or b'\0' * 8), dtype=kind)
                tensors[name] = data[: math.prod(entry['shape'])].reshape(entry['shape'])
    except OSError as error:
        raise _broken(key, path, error.strerror) from error
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise _broken(key, path, f'damaged: no file of safetensors ({error})') from error
    device = map_location if isinstance(map_location, str | torch.device) else 'cpu'
    return dict(state_dict={name: tensor.to(device) for name, tensor in tensors.items()})


def _unpickle(path: Path, key: str, map_location: object) -> dict:
    MMLogger.get_current_instance().warning(
        f'{key}={str(path)!r}: trusted, and the code in it is executed (--trust-checkpoint)'
    )
    try:
        content = torch.load(path, map_location=map_location, weights_only=False)
        return dict(state_dict=content.state_dict()) if isinstance(content, nn.Module) else content
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
    checkpoint: Mapping,
    path: str | Path,
    key: str,
    network: int | None = None,
    like: nn.Module | None = None,
) -> dict[str, Tensor]:
    """The state dict of one network (``backbone.*``, ``head.*``, ...) in a checkpoint.

    Args:
        checkpoint: What :func:`read_checkpoint` gave: of a plain network, also one of mmpretrain's
            own, of a teacher, of an offline distiller (its student) or of an online one (its first
            network); or a ResNet, ResNeXt or Wide ResNet of torchvision's (``conv1.*``,
            ``layer1.*``, ..., ``fc.*``), which mmpretrain's ``ResNet`` and ``ResNeXt`` take. Names
            may begin with those of wrappers (``module.``, ``_orig_mod.``, Lightning's ``model.``).
        path: Where it came from, for messages.
        key: The config key or option that named it, for messages.
        network: Which network of an online distiller; the first by default.
        like: The network that wants the weights, for those of torchvision and timm, see
            :func:`~hsakd.utils.foreign_weights.foreign_network`.

    Raises:
        CheckpointError: There is none.
    """
    weights = unwrapped(with_counters(checkpoint_weights(checkpoint)))
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
    if is_torchvision_resnet(weights):
        return {f'{"head" if k[:3] == "fc." else "backbone"}.{k}': v for k, v in weights.items()}
    foreign = foreign_network(weights, like) if like is not None else {}
    if foreign:
        return foreign
    found = ', '.join(map(str, list(checkpoint)[:4])) if isinstance(checkpoint, Mapping) else ''
    raise CheckpointError.expected(
        f'{key}={str(path)!r}',
        'a network: a checkpoint of tools/train.py, a ResNet of torchvision, a classifier of '
        'mmpretrain, or what tools/model_converters/convert_official.py makes of those of the '
        "paper's authors",
        f'{found or type(checkpoint).__name__}, ...',
    )


def checkpoint_weights(checkpoint: object) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name: its ``state_dict``, what others call so, or itself."""
    weights = checkpoint if isinstance(checkpoint, Mapping) else {}
    inner = (weights.get(key) for key in _WEIGHTS)
    weights = next((part for part in inner if isinstance(part, Mapping)), weights)
    return {str(name): value for name, value in weights.items() if isinstance(value, Tensor)}


def unwrapped(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights without what wrappers put before all of their names, as in ``module.model.conv1``."""
    weights = {name.replace('_orig_mod.', ''): value for name, value in weights.items()}
    for prefix in _WRAPPERS * 2:
        inner = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        # Lightning's modules have metrics and losses beside the model.
        if len(inner) > len(weights) / 2:
            weights = inner
    return weights


def is_torchvision_resnet(weights: Mapping[str, Tensor]) -> bool:
    """Tell torchvision's from the ResNets for 32x32 images of others, which share some keys."""
    weights = unwrapped(weights)
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
    state_dict = network_state_dict(checkpoint, path, key, like=network)
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

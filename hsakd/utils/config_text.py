"""Configs out of checkpoints, read and checked without executing anything that they hold."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.utils import import_modules_from_strings

from .errors import CheckpointError, ConfigError


def checkpoint_meta(checkpoint: object) -> Mapping:
    """What a checkpoint says of its training (``meta``); empty where it says nothing."""
    meta = checkpoint.get('meta') if isinstance(checkpoint, Mapping) else None
    return meta if isinstance(meta, Mapping) else {}


def checkpoint_config(checkpoint: Mapping, path: str | Path, key: str) -> Config:
    """The config that mmengine's runner wrote into a checkpoint.

    The modules that its ``custom_imports`` names are imported, since its types may be theirs.

    Args:
        checkpoint: What :func:`~hsakd.utils.checkpoint.read_checkpoint` gave.
        path: Where it came from, for messages.
        key: The option that named it, for messages.

    Raises:
        CheckpointError: There is no config, or it holds more than plain values.
        ConfigError: A module of ``custom_imports`` is not installed.
    """
    text = checkpoint_meta(checkpoint).get('cfg')
    if not isinstance(text, str):
        raise CheckpointError.expected(
            f'{key}={str(path)!r}',
            'a checkpoint of tools/train.py, or a file of publish_student.py (whose option '
            '--config takes the config of other checkpoints)',
            'no config in it (meta.cfg)',
        )
    try:
        config = parse_config(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CheckpointError.expected(
            f'{key}={str(path)!r}', 'plain values in its config (meta.cfg)', error
        ) from error
    imports = config.get('custom_imports')
    if imports:
        try:
            import_modules_from_strings(**imports)
        except (ImportError, TypeError) as error:
            raise ConfigError(
                f'{key}={str(path)!r}: custom_imports={imports} of the config in it: {error}'
            ) from error
    return config


def parse_config(text: str) -> Config:
    """A config from its ``pretty_text``: assignments of literals and of ``dict(...)``.

    mmengine's ``Config.fromstring`` would run the text as a program.

    Raises:
        SyntaxError: No Python.
        ValueError: Anything but such assignments.
    """
    values = {}
    for statement in ast.parse(text).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                values[name] = _value(value)
            case _:
                raise ValueError(f'line {statement.lineno} is no assignment of a plain value')
    return Config(values)


def find_class(registry: Registry, name: str, scope: str, key: str) -> type:
    """The registered class that a config's ``type`` names; see :func:`find_type`."""
    return find_type(registry, name, scope, key)[0]


def find_type(registry: Registry, name: str, scope: str, key: str) -> tuple[type, str]:
    """The registered class that a config's ``type`` names, and the scope that has it.

    A name without a scope is looked for in the config's, ours and mmpretrain's, as the registries
    find what the code of these packages builds.

    Registries also resolve ``type='os.system'`` to that function; only what somebody registered is
    accepted here.

    Args:
        registry: Where to look, together with its relatives.
        name: With or without a scope, as in ``mmpretrain.ResNet``.
        scope: The scope of names without one.
        key: The config key, for messages.

    Raises:
        ConfigError: No such class is registered.
    """
    for tried in dict.fromkeys([scope, 'hsakd', 'mmpretrain']):
        try:
            with registry.switch_scope_and_registry(tried) as scoped:
                found = scoped.get(name)
        except (RuntimeError, TypeError):  # mmengine found nothing of that name
            continue
        for scope_of, registered in _registered(registry.parent):
            if found is registered:
                return found, scope_of
    raise ConfigError.expected(
        f'{key}.type',
        'a registered type of hsakd, of the OpenMMLab packages (with prefix, as in '
        'mmpretrain.ResNet) or of modules that the config imports (custom_imports)',
        repr(name),
    )


def leaf_datasets(dataset: dict) -> Iterator[dict]:
    """The data sets in wrappers such as FewShotSubset and ConcatDataset."""
    if 'dataset' in dataset:
        yield from leaf_datasets(dataset['dataset'])
    elif 'datasets' in dataset:
        for part in dataset['datasets']:
            yield from leaf_datasets(part)
    elif dataset:
        yield dataset


def _registered(registry: Registry) -> Iterator[tuple[str, object]]:
    for registered in registry.module_dict.values():
        yield registry.scope, registered
    for child in registry.children.values():
        yield from _registered(child)


def _value(node: ast.expr) -> object:
    match node:
        case ast.Call(func=ast.Name(id='dict'), args=[], keywords=keywords):
            if all(keyword.arg for keyword in keywords):
                return {keyword.arg: _value(keyword.value) for keyword in keywords}
        case ast.Dict(keys=keys, values=values):
            if all(keys):
                return {
                    ast.literal_eval(key): _value(value)
                    for key, value in zip(keys, values, strict=True)
                }
        case ast.List(elts=elements):
            return [_value(element) for element in elements]
        case ast.Tuple(elts=elements):
            return tuple(_value(element) for element in elements)
        case ast.Name(id='inf' | 'nan' as name):
            return float(name)
    return ast.literal_eval(node)

"""Faults of configs by their keys: keys that nothing reads, and what constructors raise."""

import ast
import contextlib
import inspect
import logging
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from types import MappingProxyType

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import Registry
from mmengine.runner import (
    EpochBasedTrainLoop,
    IterBasedTrainLoop,
    LogProcessor,
    Runner,
    TestLoop,
    ValLoop,
)
from torch.utils.data import DataLoader

from hsakd.utils.checks import is_number
from hsakd.utils.errors import ConfigError, UserError


def arguments(*functions: object) -> set[str]:
    """Names of arguments that functions, or constructors of classes, take."""
    return {name for function in functions for name in inspect.signature(function).parameters}


#: Keys that this or mmengine's runner reads.
_KEYS = arguments(Runner.__init__) - {'self', 'cfg'} | set(
    'compile custom_imports env_cfg fast find_unused_parameters in_memory max_bad_images '
    'model_wrapper_cfg pretrained_backbone pretrained_network pretrained_sha256 runner_type '
    'strategy sync_bn'
    .split()
)  # fmt: skip
_LOADER = arguments(DataLoader) | {'in_memory', 'num_batch_per_epoch', 'disable_subprocess_warning'}
#: Keys of sections without a type, or with mmengine's own.
_SECTIONS = {
    'train_dataloader': _LOADER,
    'val_dataloader': _LOADER,
    'test_dataloader': _LOADER,
    'train_cfg': arguments(EpochBasedTrainLoop, IterBasedTrainLoop) | {'by_epoch'},
    'val_cfg': arguments(ValLoop),
    'test_cfg': arguments(TestLoop),
    'optim_wrapper': arguments(OptimWrapper, AmpOptimWrapper) | {'constructor', 'paramwise_cfg'},
    'log_processor': arguments(LogProcessor),
    'randomness': {'seed', 'deterministic', 'diff_rank_seed'},
    'auto_scale_lr': {'enable', 'base_batch_size'},
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
}
_TYPES = (
    'None EpochBasedTrainLoop IterBasedTrainLoop ValLoop TestLoop OptimWrapper AmpOptimWrapper '
    'LogProcessor'
).split()


#: Packages that a config's types may come from without a prefix.
_SCOPES = ('hsakd', 'mmpretrain', 'mmdet', 'mmengine', 'mmcv')
#: Functions of mmengine and of ours whose frames tell what was being built.
_BUILDERS = ('build_from_cfg', '_build_from_any_scope')


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The known name that is most like one, as advice; empty if none is."""
    found = get_close_matches(name, known, 1, cutoff)
    return f' (did you mean {found[0]!r}?)' if found else ''


def check_keys(config: Config, options: Iterable[str], before: Iterable[str]) -> None:
    """Check that something reads the keys of a config, of which a warning names the others.

    Args:
        config: With its options.
        options: Keys of ``--cfg-options``.
        before: Keys at the top of the config without them.

    Raises:
        ConfigError: A key looks like a typo, or an option is none that anything reads.
    """
    read, before = _names_read(config), {*before}
    for option in options:
        key = option.split('.')[0]
        if key in _KEYS or (key in before and key not in read):  # for somebody's own hooks
            continue
        was_read = 'a variable of the config that was read before' if key in before else 'none'
        raise ConfigError.expected(f'--cfg-options {option}', _advice(key, config), was_read)
    for key in config:
        if key in _KEYS or key in read or _is_variable(key, config):
            continue
        close = nearest(key, _KEYS, 0.8)
        ConfigError.check(not close, key, f'a key that something reads{close}', 'another one')
        MMLogger.get_current_instance().warning(
            f'{key}: nothing here reads this key of the config; expected {_advice(key, config)}'
        )
    scope = str(config.get('default_scope') or 'hsakd')
    close = '' if scope in _SCOPES else nearest(scope, _SCOPES, 0.8)
    ConfigError.check(
        not close, 'default_scope', f'one of {", ".join(_SCOPES)}{close}', repr(scope)
    )
    for section, known in _SECTIONS.items():
        content = config.get(section)
        kind = content.get('type') if isinstance(content, Mapping) else 'another'
        if _name(kind) in _TYPES:
            for key in content:
                if key not in known | {'type', '_scope_'}:
                    expected = f'one of {", ".join(sorted(known))}{nearest(key, known)}'
                    raise ConfigError.expected(f'{section}.{key}', expected, 'another key')


def _is_variable(key: str, config: Config) -> bool:
    """Whether a key of a config that mmengine wrote out is what was a variable of its files."""
    value = config[key]
    others = [(path, other) for path, other in _items(config) if path.split('.')[0] != key]
    same = [path.split('.')[-1] for path, other in others if other == value]
    return key.startswith('tta_') or (key in same if _is_plain(value) else bool(same))


def _is_plain(value: object) -> bool:
    return not value or isinstance(value, int | float)


def _advice(key: str, config: Config) -> str:
    """Where a value of this name counts."""
    same = [path for path, _ in _items(config) if path.split('.')[-1] == key and '.' in path]
    return ' or '.join(same[:3]) or f'a key of the runner{nearest(key, _KEYS)}'


def _names_read(config: Config) -> set[str]:
    """Variables that the files of a config read."""
    names = set()
    # Each file's text follows its path.
    for text in re.split(r'^/.*\.py$', config.text or '', flags=re.MULTILINE):
        names |= set(re.findall(r'_base_\.(\w+)', text))
        try:
            nodes = [*ast.walk(ast.parse(text))]
        except SyntaxError:  # a config in YAML or JSON
            continue
        loads = (node for node in nodes if isinstance(node, ast.Name))
        names |= {node.id for node in loads if isinstance(node.ctx, ast.Load)}
    return names


def _items(value: object, path: str = '') -> Iterator[tuple[str, object]]:
    """Every value in a config with its key, as in ``('model.head.num_classes', 10)``."""
    if path:
        yield path, value
    parts = ()
    if isinstance(value, Mapping | Config):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    for key, item in parts:
        yield from _items(item, f'{path}.{key}' if path else str(key))


@contextlib.contextmanager
def building(key: str, config: Config | Mapping = MappingProxyType({})) -> Iterator[None]:
    """Report as one message what constructors of anybody's classes raise.

    Args:
        key: What is built, where no key of ``config`` is found to be at fault.
        config: From which it is built.

    Raises:
        ConfigError: They raise something. A traceback goes to the log file.
    """
    try:
        yield
    except UserError as error:
        where = _at_fault(error, config)[0] if str(error).startswith("type='") else ''
        if not where:
            raise
        raise ConfigError(f'{where}{str(error).removeprefix("type")}') from error
    except Exception as error:
        logger = MMLogger.get_current_instance()
        if any(isinstance(handler, logging.FileHandler) for handler in logger.handlers):
            logger.info(traceback.format_exc())  # which the terminal does not show
        where, advice = _at_fault(error, config)
        raise ConfigError(f'{where or key} cannot be used: {in_one_line(error)}{advice}') from error


def in_one_line(error: Exception) -> str:
    """The type and message of an error."""
    # The text of a KeyError is its argument in quotes.
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    return f'{type(error).__name__}: {" ".join(str(message).split())}'


def _at_fault(error: Exception, config: Config | Mapping) -> tuple[str, str]:
    """The key of a config by which something was built that raised an error, and advice."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    built = [f.f_locals for f in frames if f.f_code.co_name in _BUILDERS]
    if not (built and isinstance(built[-1].get('cfg'), Mapping)):
        # Of no type: a value that the message names.
        words = re.findall(r'\w{3,}', str(error))
        named = [
            path for path, value in _items(config) if isinstance(value, str) and value in words
        ]
        return named[0] if len(named) == 1 else '', ''
    cfg, kind = built[-1]['cfg'], built[-1].get('obj_cls')
    alike = {path: value for path, value in _items(config) if _same(value, cfg)}
    exact = [path for path, value in alike.items() if value.get('type') == cfg.get('type')]
    where = next(iter([*exact, *alike]), '')
    if kind is None and 'type' in cfg:
        registry = built[-1].get('registry', built[-1].get('self'))  # an empty one is false
        advice = nearest(_name(cfg['type']), _registered(registry))
        return f'{where}.type' if where else '', advice
    if kind is None:
        group, _, name = where.rpartition('.')
        siblings = {path.split('.')[-1] for path, _ in _items(config) if path.startswith(group)}
        return where, nearest(name, siblings - {name})
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if unknown and unknown[1] in cfg:
        return f'{where}.{unknown[1]}', nearest(unknown[1], _accepted(kind))
    for name, value in cfg.items():
        if isinstance(value, str) and _is_number(_accepted(kind).get(name)):
            return f'{where}.{name}', f'; expected a number, got {value!r}'
    return where, ''


def _same(value: object, cfg: Mapping) -> bool:
    """Whether a config is that of which something was built, whose type may be a class by now."""
    if not (isinstance(value, Mapping) and value):
        return False
    rest = {key: item for key, item in value.items() if key != 'type'}
    if any(key not in cfg or cfg[key] != item for key, item in rest.items()):
        return False  # some constructors are given more than the config says
    same_name = _name(value.get('type')) == _name(cfg.get('type'))
    return same_name or (bool(rest) and rest.keys() == cfg.keys() - {'type'})


def _name(kind: object) -> str:
    """The name of a type, without a scope."""
    return str(getattr(kind, '__name__', kind)).split('.')[-1]


def _accepted(kind: object) -> dict[str, inspect.Parameter]:
    """Arguments of a class, those that it may hand on included, or of a function."""
    found = {}
    for part in reversed(inspect.getmro(kind)) if inspect.isclass(kind) else [kind]:
        with contextlib.suppress(TypeError, ValueError):  # of one written in C
            found |= inspect.signature(part).parameters
    return {name: parameter for name, parameter in found.items() if name not in ('args', 'kwargs')}


def _is_number(parameter: inspect.Parameter | None) -> bool:
    return parameter is not None and (
        is_number(parameter.default) or parameter.annotation in (int, float)
    )


def _registered(registry: Registry) -> set[str]:
    """Names that a type could have meant: those of other packages with their prefix."""
    children = registry.root.children.items()
    others = {f'{scope}.{name}' for scope, child in children for name in child.module_dict}
    return {*registry.module_dict, *registry.root.module_dict, *others}

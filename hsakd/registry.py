"""Registries of hsakd, children of mmengine's under the scope ``hsakd``.

A type without a prefix is looked for in the default scope, which is hsakd in our configs, and in
mmengine (and mmcv); then in the package whose code builds it. So a policy of mmpretrain's
``RandAugment`` and a joint head of ours are found in any scope. In a config other types of
mmpretrain and mmdet are written with their prefix, as in ``mmpretrain.LinearClsHead``.

``locations`` make mmengine import a folder at its first lookup, so ``import hsakd`` itself costs
little.
"""

from collections.abc import Mapping
from importlib.util import find_spec

from mmengine import registry as mmengine_registry
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import Registry

from hsakd.utils.errors import ConfigError

#: Packages whose types a config may name.
_SCOPES = ('hsakd', 'mmpretrain', 'mmdet')
_build = Registry.build

# So that mmengine takes 'hsakd::kd/....py', in `_base_` and mmengine.hub, for one of our configs.
MODULE2PACKAGE['hsakd'] = 'hsakd'


def _child(name: str, location: str = 'registry') -> Registry:
    """A registry; without a location, of nothing: mmengine imports this module, as it wants one."""
    parent = getattr(mmengine_registry, name)
    return Registry(parent.name, parent=parent, scope='hsakd', locations=[f'hsakd.{location}'])


MODELS = _child('MODELS', 'models')
DATASETS = _child('DATASETS', 'datasets')
TRANSFORMS = _child('TRANSFORMS', 'datasets')
HOOKS = _child('HOOKS', 'engine')
METRICS = _child('METRICS', 'evaluation')
DATA_SAMPLERS = _child('DATA_SAMPLERS', 'datasets')
OPTIMIZERS = _child('OPTIMIZERS', 'engine')
RUNNERS = _child('RUNNERS', 'engine.runner')

# Nothing of ours is in these, but mmengine wants one of every kind that a config may name.
EVALUATOR = _child('EVALUATOR')
FUNCTIONS = _child('FUNCTIONS')
INFERENCERS = _child('INFERENCERS')
LOG_PROCESSORS = _child('LOG_PROCESSORS')
LOOPS = _child('LOOPS')
MODEL_WRAPPERS = _child('MODEL_WRAPPERS')
OPTIM_WRAPPER_CONSTRUCTORS = _child('OPTIM_WRAPPER_CONSTRUCTORS')
OPTIM_WRAPPERS = _child('OPTIM_WRAPPERS')
PARAM_SCHEDULERS = _child('PARAM_SCHEDULERS')
RUNNER_CONSTRUCTORS = _child('RUNNER_CONSTRUCTORS')
STRATEGIES = _child('STRATEGIES')
TASK_UTILS = _child('TASK_UTILS')
VISBACKENDS = _child('VISBACKENDS')
VISUALIZERS = _child('VISUALIZERS')
WEIGHT_INITIALIZERS = _child('WEIGHT_INITIALIZERS')


def install() -> None:
    """Make registries of all packages find types as this module says, and name those elsewhere."""
    Registry.build = _build_from_any_scope


def _build_from_any_scope(self: Registry, cfg: object, *args, **kwargs) -> object:
    """Build a type of the default scope, or of the package whose registry is asked.

    Raises:
        ConfigError: A name without a prefix is that of a type of another package.
    """
    name = cfg.get('type') if isinstance(cfg, Mapping) else None
    if name and self.parent is None and self.scope != 'mmengine':
        # It knows no scopes, and would warn of the default one: mmpretrain's batch augmentations.
        return _build(self, {'_scope_': self.scope, **cfg}, *args, **kwargs)
    if isinstance(name, str) and '.' not in name:
        with self.switch_scope_and_registry(cfg.get('_scope_')) as default:
            registries = [default, self]
        # They have other types of the same names, and mean their own.
        if {default.scope, self.scope} == {'mmpretrain', 'mmdet'}:
            registries.reverse()
        found = [kind for registry in registries if (kind := registry.get(name)) is not None]
        if not found:
            _check_scopes(self, name)
        else:
            cfg = cfg.copy()
            cfg['type'] = found[0]
    return _build(self, cfg, *args, **kwargs)


def _check_scopes(registry: Registry, name: str) -> None:
    """Check that a type, which was not found, is none of another package's."""
    names = [f'{scope}.{name}' for scope in _SCOPES if find_spec(scope)]
    names = [name for name in names if registry.root.get(name) is not None]
    ConfigError.check(not names, f'type={name!r}', ' or '.join(names), 'the name without a prefix')

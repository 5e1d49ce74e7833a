"""Registries of hsakd, children of mmengine's under the scope ``hsakd``.

A type without a prefix is looked for here and then in mmengine (and mmcv); those of mmpretrain and
mmdet are written with their prefix, as in ``mmpretrain.LinearClsHead``. ``locations`` make mmengine
import a folder at its first lookup, so ``import hsakd`` itself costs little.
"""

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry


def _child(name: str, location: str | None = None) -> Registry:
    parent = getattr(mmengine_registry, name)
    locations = [f'hsakd.{location}'] if location else []
    return Registry(parent.name, parent=parent, scope='hsakd', locations=locations)


MODELS = _child('MODELS', 'models')
DATASETS = _child('DATASETS', 'datasets')
TRANSFORMS = _child('TRANSFORMS', 'datasets')
HOOKS = _child('HOOKS', 'engine')
METRICS = _child('METRICS', 'evaluation')
OPTIMIZERS = _child('OPTIMIZERS', 'engine')

# Nothing of ours is in these, but mmengine wants one of every kind that a config may name.
DATA_SAMPLERS = _child('DATA_SAMPLERS')
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
RUNNERS = _child('RUNNERS')
STRATEGIES = _child('STRATEGIES')
TASK_UTILS = _child('TASK_UTILS')
VISBACKENDS = _child('VISBACKENDS')
VISUALIZERS = _child('VISUALIZERS')
WEIGHT_INITIALIZERS = _child('WEIGHT_INITIALIZERS')

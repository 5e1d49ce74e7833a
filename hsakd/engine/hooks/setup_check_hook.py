from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmpretrain.evaluation import Accuracy
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, Dataset

from hsakd.registry import HOOKS
from hsakd.utils.errors import ConfigError


@HOOKS.register_module()
class SetupCheckHook(Hook):
    """Compares model, data and metrics before the first iteration.

    What it looks for would otherwise end in a traceback or, worse, in wrong figures: other classes
    in model, training and validation data; a batch of one image under batch norm; more top-k than
    classes; fixed parts of a model without trained weights (its ``check_weights``), which several
    processes would not notice, since their model wrapper passes ``train_step`` by.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._train_classes: tuple[str, ...] | None = None

    def before_train(self, runner: Runner) -> None:
        """Check the model, and training data against it."""
        self._check_classes(runner.model, runner.train_dataloader.dataset, 'train_dataloader')
        self._train_classes = _classes(runner.train_dataloader.dataset)
        _check_batch_norm(runner.model, runner.train_dataloader)
        if runner.val_loop is not None:
            self._check_classes(runner.model, runner.val_dataloader.dataset, 'val_dataloader')
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if hasattr(model, 'check_weights'):
            model.check_weights()

    def before_val(self, runner: Runner) -> None:
        """Check validation data and metrics."""
        _check_topk(runner.val_evaluator, runner.val_dataloader.dataset, 'val_evaluator')

    def before_test(self, runner: Runner) -> None:
        """Check test data and metrics."""
        self._check_classes(runner.model, runner.test_dataloader.dataset, 'test_dataloader')
        _check_topk(runner.test_evaluator, runner.test_dataloader.dataset, 'test_evaluator')

    def _check_classes(self, model: nn.Module, dataset: Dataset, key: str) -> None:
        classes = _classes(dataset)
        wanted = _num_classes(model)
        if classes is None or wanted is None:
            return
        if len(classes) != wanted:
            raise ConfigError(
                f'{key}.dataset has {len(classes)} classes, the model {wanted}: accepted is '
                f'num_classes={len(classes)} in the head of every network of the config'
            )
        if self._train_classes is not None and classes != self._train_classes:
            pairs = zip(self._train_classes, classes, strict=True)
            train, other = next((a, b) for a, b in pairs if a != b)
            raise ConfigError(
                f'{key}.dataset has class {other!r} where train_dataloader.dataset has {train!r}: '
                'accepted are the same classes in the same order'
            )


def _classes(dataset: Dataset) -> tuple[str, ...] | None:
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    return None if classes is None else tuple(classes)


def _num_classes(model: nn.Module) -> int | None:
    """Classes of the network under training, where it is a classifier."""
    if is_model_wrapper(model):
        model = model.module
    network = model.networks[0] if hasattr(model, 'networks') else getattr(model, 'student', model)
    return getattr(getattr(network, 'head', None), 'num_classes', None)


def _check_batch_norm(model: nn.Module, dataloader: DataLoader) -> None:
    if not any(isinstance(module, _BatchNorm) and module.training for module in model.modules()):
        return
    if dataloader.batch_size == 1:
        raise ConfigError(
            'train_dataloader.batch_size=1: batch norm needs more than one image to estimate mean '
            'and variance; accepted are 2 and more'
        )
    images = len(dataloader.sampler)
    if images % dataloader.batch_size == 1 and not dataloader.drop_last:
        raise ConfigError(
            f'train_dataloader.batch_size={dataloader.batch_size} leaves one image of {images} for '
            'the last batch, too few for batch norm; accepted are train_dataloader.drop_last=True '
            'and other batch sizes'
        )


def _check_topk(evaluator: Evaluator, dataset: Dataset, key: str) -> None:
    classes = _classes(dataset)
    for metric in evaluator.metrics:
        if classes and isinstance(metric, Accuracy) and max(metric.topk) > len(classes):
            raise ConfigError(
                f'{key}: topk={tuple(metric.topk)} of {len(classes)} classes; accepted is at most '
                f'{len(classes)}, e.g. --cfg-options {key}.0.topk="(1,)"'
            )

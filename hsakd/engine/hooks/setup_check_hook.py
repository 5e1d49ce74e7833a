import torch
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import LinearClsHead
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, Dataset

from hsakd.registry import HOOKS
from hsakd.utils.errors import ConfigError


@HOOKS.register_module()
class SetupCheckHook(Hook):
    """Compares model, data and metrics before the first iteration.

    What it looks for would otherwise end in a traceback or, worse, in wrong figures: other classes
    in model, training and validation data; no batch at all, or one of one image under batch norm;
    more top-k than classes; a head for other features than those it gets; fixed parts of a model
    without trained weights (its ``check_weights``), which several processes would not notice, since
    their model wrapper passes ``train_step`` by.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._train_classes: tuple[str, ...] | None = None
        self._features_checked = False

    def before_train(self, runner: Runner) -> None:
        """Check the model, and training data against it."""
        self._check_classes(runner.model, runner.train_dataloader.dataset, 'train_dataloader')
        self._train_classes = _classes(runner.train_dataloader.dataset)
        _check_batches(runner.train_dataloader)
        _check_batch_norm(runner.model, runner.train_dataloader)
        if runner.val_loop is not None:
            self._check_classes(runner.model, runner.val_dataloader.dataset, 'val_dataloader')
            self.before_val(runner)
        model = _unwrapped(runner.model)
        _check_normalisation(model)
        if hasattr(model, 'check_weights'):
            model.check_weights()

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Check, at the first batch, that heads take what they get."""
        if not self._features_checked:
            _check_features(_unwrapped(runner.model), data_batch)
            self._features_checked = True

    def before_val(self, runner: Runner) -> None:
        """Check validation data and metrics."""
        _check_metrics(runner.val_evaluator, runner.val_dataloader.dataset, 'val_evaluator')

    def before_test(self, runner: Runner) -> None:
        """Check test data and metrics."""
        self._check_classes(runner.model, runner.test_dataloader.dataset, 'test_dataloader')
        _check_metrics(runner.test_evaluator, runner.test_dataloader.dataset, 'test_evaluator')

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


def _unwrapped(model: nn.Module) -> nn.Module:
    return model.module if is_model_wrapper(model) else model


def _networks(model: nn.Module) -> dict[str, nn.Module]:
    """The networks under training, by their keys in the config."""
    if hasattr(model, 'networks'):
        return {f'model.networks.{i}': network for i, network in enumerate(model.networks)}
    if hasattr(model, 'student'):
        return {'model.student': model.student}
    return {'model': model}


def _num_classes(model: nn.Module) -> int | None:
    """Classes of the networks or the detector under training, where there is a head with some."""
    network = next(iter(_networks(_unwrapped(model)).values()))
    network = getattr(network, 'roi_head', network)  # of detectors with two stages
    head = getattr(network, 'head', None) or getattr(network, 'bbox_head', None)
    return getattr(head, 'num_classes', None)


def _check_batches(dataloader: DataLoader) -> None:
    if len(dataloader) == 0:
        batches = dataloader.batch_sampler
        raise ConfigError(
            f'train_dataloader.batch_size={batches.batch_size} of {len(batches.sampler)} '
            'images in all with drop_last=True leaves no batch to train on; accepted are batch '
            'sizes of at most the number of images, and more images'
        )


def _check_normalisation(model: nn.Module) -> None:
    preprocessor = getattr(model, 'data_preprocessor', None)
    for name in ('mean', 'std'):
        values = getattr(preprocessor, name, None)
        if isinstance(values, torch.Tensor) and values.numel() not in (1, 3):
            raise ConfigError(
                f'data_preprocessor.{name}={values.flatten().tolist()}: accepted are three '
                'numbers, one for each channel'
            )


@torch.no_grad()
def _check_features(model: nn.Module, data_batch: dict) -> None:
    """Pass one image through the networks, without touching statistics or random numbers."""
    for key, network in _networks(model).items():
        head = getattr(network, 'head', None)
        if not isinstance(head, LinearClsHead):
            continue
        image = model.data_preprocessor(data_batch, False)['inputs'][:1]
        training = {module: module.training for module in network.modules()}
        network.eval()
        try:
            features = network.extract_feat(image)
        except Exception as error:  # of anybody's layers
            message = ' '.join(str(error).split())
            raise ConfigError(
                f'{key}: an image of shape {tuple(image.shape[1:])} does not pass backbone and '
                f'neck: {type(error).__name__}: {message}'
            ) from error
        for module, mode in training.items():
            module.training = mode
        features = features[-1] if isinstance(features, list | tuple) else features
        if features.shape[-1] != head.in_channels:
            *shape, found = features.shape[1:]
            accepted = 'a neck that pools' if shape else f'in_channels={found}'
            raise ConfigError(
                f'{key}.head.in_channels={head.in_channels}: backbone and neck make features of '
                f'shape {tuple(features.shape[1:])} of an image; accepted is {accepted}'
            )


def _check_batch_norm(model: nn.Module, dataloader: DataLoader) -> None:
    if hasattr(_unwrapped(model), 'with_bbox'):  # a detector, whose maps have more than one pixel
        return
    if not any(isinstance(module, _BatchNorm) and module.training for module in model.modules()):
        return
    batches = dataloader.batch_sampler
    if batches.batch_size == 1:
        raise ConfigError(
            'train_dataloader.batch_size=1: batch norm needs more than one image to estimate mean '
            'and variance; accepted are 2 and more'
        )
    images = len(batches.sampler)
    if images == 1:
        raise ConfigError(
            'train_dataloader.dataset has one image in all, too few for batch norm; accepted are '
            'two and more'
        )
    if images % batches.batch_size == 1 and not batches.drop_last:
        raise ConfigError(
            f'train_dataloader.batch_size={batches.batch_size} leaves one image of {images} for '
            'the last batch, too few for batch norm; accepted are train_dataloader.drop_last=True '
            'and other batch sizes'
        )


def _check_metrics(evaluator: Evaluator, dataset: Dataset, key: str) -> None:
    classes = _classes(dataset)
    for metric in evaluator.metrics if classes else ():
        if isinstance(metric, Accuracy) and max(metric.topk) > len(classes):
            raise ConfigError(
                f'{key}: topk={tuple(metric.topk)} of {len(classes)} classes; accepted is at most '
                f'{len(classes)}, e.g. --cfg-options {key}.0.topk="(1,)"'
            )
        coco = getattr(metric, '_coco_api', None)  # of mmdet's CocoMetric with an ann_file
        if coco is None:
            continue
        names = [c['name'] for c in coco.dataset['categories'] if c['name'] in classes]
        if names != list(classes):
            raise ConfigError(
                f'{key}.ann_file has its categories in the order {names}, and the data set '
                f'{list(classes)}: the metric would take one for another; accepted are '
                'metainfo.classes in the order of the file'
            )
        image = dataset.get_data_info(0).get('img_id')
        if image not in coco.imgs:
            raise ConfigError(
                f'{key}.ann_file has no image of id {image!r}, which the data set has; accepted is '
                "the data set's own annotation file"
            )

"""What is compared before a run: config, model, data and metrics.

Each check raises a :class:`~hsakd.utils.errors.ConfigError` that names the key at fault. What they
look for would otherwise end in a traceback or, worse, in wrong figures.
"""

import copy
from collections.abc import Mapping

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook, Hook, LoggerHook
from mmengine.logging import MMLogger
from mmengine.registry import OPTIMIZERS
from mmengine.runner import BaseLoop, Runner
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import ClsHead, ImageClassifier, LinearClsHead
from torch import nn
from torch.utils.data import DataLoader, Dataset

from hsakd.evaluation.top_k import fit_top_k
from hsakd.models.method import Samples
from hsakd.models.networks import BranchedClassifier
from hsakd.structures import class_labels
from hsakd.utils.checks import is_number
from hsakd.utils.errors import ConfigError, DataError, UserError
from hsakd.utils.networks import image_channels, trained_networks, unwrap
from hsakd.utils.normalization import TrainedWith, config_normalization

#: Optimizer wrappers that set the precision themselves.
_OTHER_PRECISIONS = ('AmpOptimWrapper', 'ApexOptimWrapper')
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

# The config.


def check_fast(config: Config) -> None:
    """Check that ``fast`` and what else the config says go together."""
    fast = config.get('fast', False)
    ConfigError.check(isinstance(fast, bool), 'fast', 'True or False', repr(fast))
    if not fast:
        return
    wrapper = config.get('optim_wrapper') or {}
    kind = wrapper.get('type', 'OptimWrapper')
    kind = kind if isinstance(kind, str) else kind.__name__
    accumulates = torch.cuda.is_available() and wrapper.get('accumulative_counts', 1) > 1
    for other, found in {
        'a config of a detector': config.get('default_scope') == 'mmdet',
        f'compile={config.get("compile")!r}': bool(config.get('compile')),
        f'optim_wrapper.type={kind!r} (--amp)': kind in _OTHER_PRECISIONS,
        'optim_wrapper.accumulative_counts above 1 on a GPU': accumulates,
    }.items():
        ConfigError.check(not found, 'fast=True (--fast)', 'no other such setting', other)


def check_processes(config: Mapping) -> None:
    """Check that several processes can train as a config says."""
    sync_bn = config.get('sync_bn')
    ConfigError.check(
        sync_bn is None or torch.accelerator.is_available(),
        'sync_bn',
        'None, statistics of each process, since synchronized ones need GPUs and none was found',
        repr(sync_bn),
    )
    kind = (config.get('model_wrapper_cfg') or {}).get('type')
    # Parameters in shards: where mmengine's runner initializes weights, they are wrapped already.
    expected = (
        "a wrapper that keeps the model whole, as the default, 'MMDistributedDataParallel'; FSDP "
        'and DeepSpeed do not work with this runner'
    )
    ConfigError.check('strategy' not in config, 'strategy', expected, config.get('strategy'))
    sharded = 'FullyShardedDataParallel' in str(kind)
    ConfigError.check(not sharded, 'model_wrapper_cfg.type', expected, repr(kind))


def check_optimizer(wrapper: object) -> None:
    """Check that an optimizer is known, whose error would list none."""
    optimizer = wrapper.get('optimizer') if isinstance(wrapper, Mapping) else None
    kind = optimizer.get('type') if isinstance(optimizer, Mapping) else None
    if isinstance(kind, str):
        known = OPTIMIZERS.get(kind) is not None
        expected = 'an optimizer of torch.optim'
        ConfigError.check(known, 'optim_wrapper.optimizer.type', expected, repr(kind))


def check_train_loop(loop: BaseLoop, train_cfg: Mapping) -> None:
    """Check that the lengths of a training are numbers above 0."""
    for key in ('max_epochs', 'max_iters', 'val_interval'):
        number = getattr(loop, key, None)
        if key in train_cfg:
            ok = isinstance(number, int) and number > 0
            ConfigError.check(ok, f'train_cfg.{key}', '1 or more', repr(number))


def check_schedules(schedules: object) -> None:
    """Check that learning rates are scheduled by numbers."""
    if isinstance(schedules, Mapping):
        schedules = [schedule for part in schedules.values() for schedule in part]
    for schedule in schedules:
        milestones = list(getattr(schedule, 'milestones', ()))
        ConfigError.check(
            all(isinstance(milestone, int) for milestone in milestones),
            'param_scheduler.milestones',
            'numbers of epochs (of iterations with by_epoch=False)',
            milestones,
        )
        gamma = getattr(schedule, 'gamma', 0.1)
        ConfigError.check(is_number(gamma), 'param_scheduler.gamma', 'a number', repr(gamma))


def check_intervals(hooks: list[Hook]) -> None:
    """Check that checkpoints and logs are due at numbers of epochs or iterations."""
    for hook in hooks:
        interval = getattr(hook, 'interval', 1)
        if isinstance(hook, CheckpointHook | LoggerHook):
            where = f'default_hooks: interval of {type(hook).__name__}'
            ConfigError.check(isinstance(interval, int), where, 'a whole number', repr(interval))


# Data.


def classes_of(dataset: Dataset) -> tuple[str, ...] | None:
    """The classes of a data set in their order, if it has some."""
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    return None if classes is None else tuple(classes)


def check_classes(model: nn.Module, dataset: Dataset, key: str) -> None:
    """Check that data and networks have as many classes as each other."""
    classes = classes_of(dataset)
    wanted = getattr(_head(model), 'num_classes', None)
    if classes is not None and wanted is not None:
        ConfigError.check(
            len(classes) == wanted,
            f'{key}.dataset',
            f'{wanted} classes, as the head of every network of the config has (num_classes)',
            len(classes),
        )
    while hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    largest = getattr(dataset, 'largest_label', None)
    if largest and wanted is not None:
        expected = f'a label in 0..{wanted - 1}, as the head of every network has (num_classes)'
        ConfigError.check(largest[1] < wanted, largest[0], expected, largest[1])


def _head(model: nn.Module) -> nn.Module | None:
    """The head of a model's first network."""
    network = next(iter(trained_networks(model).values()), unwrap(model))
    network = getattr(network, 'roi_head', network)  # of detectors with two stages
    return getattr(network, 'head', None) or getattr(network, 'bbox_head', None)


def check_number_of_classes(model: nn.Module, dataset: Dataset) -> None:
    """Check that a classifier has classes to tell apart."""
    classes = classes_of(dataset) or (0, 1)
    expected = '2 or more, since with one class there is nothing to learn'
    for key, network in trained_networks(model).items():
        head = getattr(network, 'head', None)
        if isinstance(head, ClsHead):  # one label an image
            where = 'classes of train_dataloader.dataset'
            ConfigError.check(len(classes) > 1, where, expected, classes)
            number = getattr(head, 'num_classes', 2)
            ConfigError.check(number > 1, f'{key}.head.num_classes', expected, number)


def check_same_classes(dataset: Dataset, others: Dataset, key: str) -> None:
    """Check that labels of validation or test mean what those of training mean."""
    classes, trained = classes_of(dataset), classes_of(others)
    if None in (classes, trained) or classes == trained:
        return
    lacking = [name for name in trained if name not in classes]
    unknown = [name for name in classes if name not in trained]
    found = [f'none for {lacking}'] * bool(lacking) + [f'also {unknown}'] * bool(unknown)
    differing = next(
        (pair for pair in zip(trained, classes, strict=False) if pair[0] != pair[1]), ()
    )
    raise ConfigError.expected(
        f'{key}.dataset',
        'the classes of train_dataloader.dataset in their order, of which some may have no image',
        ' and '.join(found) or f'{differing[1]!r} in the place of {differing[0]!r}',
    )


def check_trained_classes(trained: TrainedWith, dataset: Dataset, key: str) -> None:
    """Check that labels mean to data what they meant to the training of a checkpoint."""
    found = classes_of(dataset)
    if found and trained.classes and trained.classes != tuple(map(str, found)):
        expected, got = _shown(trained.classes, tuple(map(str, found)))
        raise ConfigError.expected(
            f'{key}.dataset.metainfo.classes',
            f'{expected}, with which {trained.source} was trained, in this order',
            got,
        )


def check_trained_images(trained: TrainedWith, config: Config, advice: str = '') -> None:
    """Check that images are normalized as in the training of a checkpoint.

    Args:
        trained: Of the checkpoint. Where it does not say, a warning has what is known of its kind.
        config: Of the run.
        advice: What else may be done.
    """
    found = config_normalization(config)
    # With a standard deviation of 0, losses that are not finite say so.
    if not (found and trained.normalization) or 0 in found.std:
        return
    if found.same(trained.normalization):
        return
    expected = f'{trained.normalization}, with which {trained.source} was trained{advice}'
    error = ConfigError.expected('data_preprocessor', expected, found)
    if trained.recorded:
        raise error
    MMLogger.get_current_instance().warning(str(error))


def check_sources(runner: Runner, dataset: Dataset) -> None:
    """Check that all that a training starts from was trained with images and labels as it has.

    A teacher that is to get its own normalization gets it here.
    """
    model, config = unwrap(runner.model), runner.cfg
    start = getattr(runner, 'trained_with', None)
    classes = classes_of(dataset) or ()
    if start:
        same_number = len(start.classes) == len(classes)  # else the head starts afresh
        if runner.cfg.get('resume') or same_number:
            check_trained_classes(start, dataset, 'train_dataloader')
        check_trained_images(start, config)
    check_frozen_parts(model, config, dataset)
    for module in model.modules():
        if getattr(module, 'pretrained_with', None):
            check_trained_images(module.pretrained_with, config)


def check_frozen_parts(model: nn.Module, config: Config, dataset: Dataset | None = None) -> None:
    """Check that what is frozen was trained with images and labels as they are here.

    Args:
        model: A teacher that is to get its own normalization gets it here.
        config: Of the run.
        dataset: Of the run.
    """
    own = getattr(model, 'teacher_normalization', None)
    for part in getattr(model, 'frozen_parts', ()):
        if part.trained_with and part.with_head and dataset is not None:
            check_trained_classes(part.trained_with, dataset, 'train_dataloader')
        if part.trained_with and not own:
            advice = getattr(model, 'normalization_advice', '')
            check_trained_images(part.trained_with, config, advice)
    if own:
        model.serve_teacher(config_normalization(config))


def _shown(classes: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, str]:
    """Names of classes and of other ones: all, or of many those that differ."""
    if max(len(classes), len(others)) <= 20 or len(classes) != len(others):
        return str(classes), str(others)
    numbers = [i for i, pair in enumerate(zip(classes, others, strict=True)) if len({*pair}) > 1]
    more = f' and {len(numbers) - 5} more' if len(numbers) > 5 else ''
    return tuple(
        ', '.join(f'{number}: {names[number]!r}' for number in numbers[:5]) + more
        for names in (classes, others)
    )


def check_batches(model: nn.Module, dataloader: DataLoader) -> None:
    """Check that there is a batch to train on, as the method needs it, and none of one image."""
    sampler = dataloader.batch_sampler
    needed = dict(getattr(model, 'batch_sampler', None) or {})
    if needed:
        batches = getattr(sampler, 'batches', sampler)
        found = {'type': type(batches).__name__}
        found |= {key: getattr(batches, key, None) for key in needed if key != 'type'}
        where, expected = 'train_dataloader.batch_sampler', f'{needed}, or none, for that is used'
        ConfigError.check(found == needed, where, expected, found)
    size, images = sampler.batch_size, len(sampler.sampler)
    batch_size = 'train_dataloader.batch_size'
    ConfigError.check(
        len(dataloader),
        batch_size,
        f'at most the number of images, {images}, with drop_last=True',
        size,
    )
    if hasattr(unwrap(model), 'with_bbox'):  # a detector, whose maps have more than one pixel
        return
    if any(isinstance(module, _BATCH_NORMS) and module.training for module in model.modules()):
        needed = '2 or more, for batch norm to estimate mean and variance'
        ConfigError.check(size != 1, batch_size, needed, size)
        ConfigError.check(images != 1, 'images of train_dataloader.dataset', needed, images)
        ConfigError.check(
            images % size != 1 or sampler.drop_last,
            batch_size,
            f'another one, or train_dataloader.drop_last=True: of {images} images one is left for '
            'the last batch, too few for batch norm',
            size,
        )


# The model.


def check_normalization(model: nn.Module) -> None:
    """Check that mean and standard deviation are those of the channels of images, or of all."""
    network = next(iter(trained_networks(model).values()), None)
    channels = image_channels(network.backbone) if network is not None else 3
    for name in ('mean', 'std'):
        values = getattr(getattr(model, 'data_preprocessor', None), name, None)
        if isinstance(values, torch.Tensor):
            ConfigError.check(
                values.numel() in (1, channels),
                f'data_preprocessor.{name}',
                f'one number, or one for each of the {channels} channels that networks take '
                '(backbone.in_channels)',
                values.flatten().tolist(),
            )


def check_scores(model: nn.Module) -> None:
    """Check that labels can become scores where batch augmentation or ``to_onehot`` needs them.

    The preprocessor gets the classes of the head, unless it has a number. Accuracies in training
    (``cal_acc``) are those that the classes allow.
    """
    head = _head(model)
    if getattr(head, 'cal_acc', False) and hasattr(head, 'num_classes'):
        fit_top_k([head], head.num_classes, 'model.head')
    preprocessor = getattr(model, 'data_preprocessor', None)
    if getattr(preprocessor, 'to_onehot', False) and preprocessor.num_classes is None:
        preprocessor.num_classes = getattr(head, 'num_classes', None)
        expected = 'the number of classes, by which labels become scores'
        known = preprocessor.num_classes is not None
        ConfigError.check(known, 'data_preprocessor.num_classes', expected, None)
    for key, network in trained_networks(model).items():
        own = getattr(network.data_preprocessor, 'batch_augments', None)
        ConfigError.check(
            own is None or network is model,
            f'{key}: augmentation of batches',
            'none of its own, but data_preprocessor.batch_augments, for all networks alike',
            own and own.augments,
        )


@torch.no_grad()
def check_features(model: nn.Module, data_batch: dict) -> None:
    """Pass one image through the networks, without touching statistics or random numbers.

    Its own label or scores go to the loss of each head.
    """
    for key, network in (trained_networks(model) or {'model': model}).items():
        head = getattr(network, 'head', None)
        if not isinstance(network, ImageClassifier):
            continue
        batch = model.data_preprocessor(data_batch, False)
        image, samples = batch['inputs'][:1], batch['data_samples']
        if getattr(model.data_preprocessor, 'batch_augments', None):
            for sample in samples:
                sample.set_gt_score(sample.gt_score.float())  # as they are when mixed
        training = {module: module.training for module in network.modules()}
        network.eval()
        try:
            maps = network.extract_feat(image)
        except Exception as error:  # of anybody's layers
            raise ConfigError.expected(
                key,
                f'backbone and neck to take an image of shape {tuple(image.shape[1:])}',
                f'{type(error).__name__}: {" ".join(str(error).split())}',
            ) from error
        for module, mode in training.items():
            module.training = mode
        if isinstance(head, LinearClsHead):
            features = maps[-1] if isinstance(maps, list | tuple) else maps
            *shape, found = features.shape[1:]
            ConfigError.check(
                found == head.in_channels,
                f'{key}.head.in_channels',
                f'a neck that pools maps of shape {(*shape, found)}'
                if shape
                else f'{found}, as backbone and neck make of an image',
                head.in_channels,
            )
        _check_loss(network, maps, samples, f'{key}.head.loss')


def _check_loss(network: ImageClassifier, maps: object, samples: Samples, key: str) -> None:
    """Check that the loss of a head takes the labels of a batch, or their scores.

    Args:
        network: With its head.
        maps: What the head takes of the first image.
        samples: Of all images.
        key: Of the loss, for messages.
    """
    head, labels = network.head, 'scores' if 'gt_score' in samples[0] else 'labels'
    before = copy.deepcopy(head.state_dict())  # some losses count what they have seen
    try:
        if not isinstance(network, BranchedClassifier):
            soft = getattr(getattr(head, 'loss_module', None), 'use_soft', False)
            needed = 'scores, by data_preprocessor.to_onehot=True'  # else they would broadcast
            ConfigError.check(labels == 'scores' or not soft, f'{key}.use_soft', needed, labels)
            head.loss(maps, samples[:1])
            return
        y, logits = class_labels(samples), head(maps).expand(len(samples), -1)
        shape = (len(samples),) if y.ndim == 1 else logits.shape
        DataError.check(
            y.shape == shape,
            'train_dataloader.dataset',
            f'one gt_label an image, or one gt_score of {logits.shape[1]} classes',
            f'{labels} {tuple(y.shape)} of {len(samples)} images',
        )
        network.cross_entropy(logits, y)
    except UserError:
        raise
    except Exception as error:  # of anybody's losses
        raise ConfigError.expected(
            key,
            f'a loss that takes the {labels} of train_dataloader.dataset',
            f'{type(error).__name__}: {" ".join(str(error).split())}',
        ) from error
    finally:
        head.load_state_dict(before)


# Metrics.


def check_metrics(evaluator: Evaluator, model: nn.Module, dataset: Dataset, key: str) -> None:
    """Check that metrics fit the classes and images of the data; top-k of more is left out."""
    classes = classes_of(dataset)
    number = getattr(_head(model), 'num_classes', len(classes or ()))
    accuracies = [metric for metric in evaluator.metrics if isinstance(metric, Accuracy)]
    fit_top_k(accuracies if number else (), number, key)
    if accuracies and isinstance(dataset, BaseDataset):
        info = dataset.get_data_info(0)
        label = info.get('gt_label')
        alone = label is None and 'gt_score' in info
        DataError.check(
            not alone and np.ndim(label) == 0,
            f'{key.split("_")[0]}_dataloader.dataset',
            f'one gt_label an image, for {type(accuracies[0]).__name__} of {key}',
            'a gt_score alone' if alone else f'gt_label={label}',
        )
    for metric in evaluator.metrics if classes else ():
        coco = getattr(metric, '_coco_api', None)  # of mmdet's CocoMetric with an ann_file
        if coco is None:
            continue
        names = [c['name'] for c in coco.dataset['categories'] if c['name'] in classes]
        ConfigError.check(
            names == list(classes),
            f'{key}.ann_file',
            f'categories in the order of metainfo.classes of the data set, {list(classes)}',
            names,
        )
        image = dataset.get_data_info(0).get('img_id')
        ConfigError.check(
            image in coco.imgs,
            f'{key}.ann_file',
            f"the data set's own annotation file, with an image of id {image!r}",
            'a file without it',
        )

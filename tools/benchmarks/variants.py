"""What the benchmarks train: a config's networks by the plain loop, and by hsakd itself."""

import itertools
import pickle
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmpretrain.structures import DataSample
from PIL import Image
from plain_loop import PlainLoop, plain_loader
from timing import Variant
from torch import Tensor, nn

import hsakd  # noqa: F401  registers hsakd's types
from hsakd.apis.running import build_runner, load_config, prepare_config
from hsakd.engine.runner import DistillationRunner, console_handlers
from hsakd.models.transforms import Rotation
from hsakd.registry import DATASETS, MODELS
from hsakd.utils.cli import runner_parser
from hsakd.utils.errors import ConfigError, UserError

ROOT = Path(__file__).resolve().parents[2]
FILES = 64  # of ImageNet's size
_numbers = itertools.count()  # of runners; mmengine knows them by name


def short_names() -> dict[str, Path]:
    """Configs of configs/hsakd for CIFAR-100 and ImageNet, e.g. 'teacher_wrn-40-2'."""
    found = {}
    for data in ('cifar100', 'imagenet'):
        for path in sorted((ROOT / 'configs' / 'hsakd').glob(f'hsakd-*_{data}.py')):
            name = path.stem.removeprefix('hsakd-').removeprefix('offline_').rsplit('_', 2)[0]
            found.setdefault(name, path)
    return found


def find_config(name: str) -> str:
    """The config file of a short name, or the path itself.

    Raises:
        UserError: It is neither.
    """
    known = short_names()
    if name in known:
        return str(known[name])
    if not Path(name).is_file():
        raise UserError(
            f'--pairs: {name!r} is unknown; accepted are paths of config files and '
            f'{", ".join(known)}'
        )
    return name


class Subject:
    """A config with made-up data, from which variants of its training are built.

    Args:
        name: Short name or path of a config.
        folder: For the data and the work dirs.
        batches: How many the data have to be enough for.
        batch_size: Images in a batch, in each process.
        options: As ``--cfg-options``.
        change: What else to do to the config.

    Raises:
        UserError: There is no such config, or nothing can be made up for it.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        batches: int,
        batch_size: int | None = None,
        options: dict | None = None,
        change: Callable[[Config], None] = lambda config: None,
    ) -> None:
        self.path = find_config(name)
        self.folder = folder
        self.options = dict(options or {})
        self.change = change
        config = load_config(self.path, self.options)
        change(config)
        kind = config.model.get('type')
        if kind not in ('HSAKDOffline', 'HSAKDOnline', 'HSAKDTeacher'):
            raise ConfigError(
                f'config {self.path!r}: model.type={kind!r}; accepted are HSAKDOffline, '
                'HSAKDOnline and HSAKDTeacher'
            )
        self.data = config.train_dataloader.dataset.type.split('.')[-1]
        self.batch_size = batch_size or default_batch_size(self.data)
        for key in ('teacher_ckpt', 'backbone_ckpt'):
            if key in config.model:
                self.options[f'model.{key}'] = None
                config.model[key] = None
        self.config = config
        self.images, self.labels = self._make_data(batches * self.batch_size)
        if not MMLogger.check_instance_created('benchmarks'):  # else each weight is a line
            MMLogger.get_instance('benchmarks', log_level='WARNING')
        torch.manual_seed(0)
        template = MODELS.build(config.model)
        template.init_weights()
        self.weights = {**dict(template.named_parameters()), **dict(template.named_buffers())}
        self.student = networks_of(template)[0]

    def _make_data(self, count: int) -> tuple[np.ndarray | list[Path], list[int]]:
        """Write random images where the config's data set looks for them."""
        rng = np.random.default_rng(0)
        root = self.folder / self.data
        self.options['train_dataloader.dataset.data_root'] = str(root)
        if self.data in ('CIFAR10', 'CIFAR100'):
            dataset = DATASETS.get(self.data)
            names = [name for name, _ in dataset.train_list]
            count = -(-count // len(names)) * len(names)
            classes = len(dataset.METAINFO['classes'])
            arrays = rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
            labels = rng.integers(0, classes, count).tolist()
            (root / dataset.base_folder).mkdir(parents=True, exist_ok=True)
            each = count // len(names)
            for start, name in zip(range(0, count, each), names, strict=True):
                part = slice(start, start + each)
                content = dict(data=arrays[part].reshape(-1, 3072), labels=labels[part])
                (root / dataset.base_folder / name).write_bytes(pickle.dumps(content))
            return np.ascontiguousarray(arrays.transpose(0, 2, 3, 1)), labels
        if self.data == 'ImageNet':
            (root / 'train').mkdir(parents=True, exist_ok=True)
            (root / 'meta').mkdir(exist_ok=True)
            paths = []
            for number in range(FILES):  # about as large as ImageNet's files
                coarse = Image.fromarray(rng.integers(0, 256, (47, 63, 3), dtype=np.uint8))
                noise = rng.integers(-16, 17, (375, 500, 3))
                image = np.asarray(coarse.resize((500, 375), Image.BICUBIC)) + noise
                paths.append(root / 'train' / f'{number}.JPEG')
                Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
            repeats = -(-max(count, FILES) // FILES)
            classes = DATASETS.get(self.data).METAINFO['classes']
            labels = rng.integers(0, len(classes), FILES * repeats).tolist()
            labels[-1] = len(classes) - 1  # of which the data set counts the classes
            paths *= repeats
            lines = [f'{path.name} {label}' for path, label in zip(paths, labels, strict=True)]
            (root / 'meta' / 'train.txt').write_text('\n'.join(lines))
            return paths, labels
        raise ConfigError(
            f'config {self.path!r}: train_dataloader.dataset.type={self.data!r}, for which nothing '
            'is made up; accepted are CIFAR10, CIFAR100 and ImageNet'
        )

    def plain(self, workers: int, alone: bool = False) -> Variant:
        """The plain loop.

        Args:
            workers: Processes that load its data.
            alone: Train the student without its teacher, on the joint labels.

        Raises:
            ConfigError: The config asks for what the plain loop does not have.
        """
        for key in ('loss_weights', 'branch_pairs'):
            if self.config.model.get(key):
                raise ConfigError(
                    f'config {self.path!r}: model.{key}; the plain loop is without it'
                )
        if not isinstance(self.student.transforms, Rotation):
            raise ConfigError(
                f'config {self.path!r}: transforms={self.student.transforms}; the plain loop has '
                'Rotation'
            )
        optimizer = self.config.optim_wrapper.optimizer
        if optimizer.type != 'SGD':
            raise ConfigError(
                f'config {self.path!r}: optim_wrapper.optimizer.type={optimizer.type!r}; the plain '
                'loop has SGD'
            )
        device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
        model = MODELS.build(self.config.model)
        model.load_state_dict(self.weights)
        model = model.to(device)
        mean, std = self._mean_and_std()
        loader = plain_loader(self.images, self.labels, mean, std, self.batch_size, workers)
        keys = ('lr', 'momentum', 'dampening', 'weight_decay', 'nesterov')
        networks = networks_of(model)
        loop = PlainLoop(
            networks,
            None if alone else getattr(model, 'teacher', None),
            loader,
            model.kl.temperature if hasattr(model, 'kl') else 1.0,
            {key: optimizer[key] for key in keys if key in optimizer},
            device,
        )
        return Variant(
            batches=loop.batches(),
            train=lambda batch: loop.step(*batch),
            networks=networks,
            teacher=loop.teacher,
            optimizer=loop.optimizer,
            teacher_logits=(loop.teacher, 'logits'),
        )

    def same_batch(self) -> tuple[dict, tuple[Tensor, Tensor]]:
        """Random images, the same ones for ``train`` of our variants and of the plain loop."""
        device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
        generator = torch.Generator().manual_seed(1)
        size = 224 if self.data == 'ImageNet' else 32
        shape = (self.batch_size, 3, size, size)
        rgb = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        labels = torch.randint(max(self.labels) + 1, (self.batch_size,), generator=generator)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in self._mean_and_std())
        normalised = ((rgb / 255 - mean) / std).to(device)
        inputs = rgb.flip(1) if self._preprocessor().get('to_rgb') else rgb
        samples = [DataSample().set_gt_label(label) for label in labels.tolist()]
        return dict(inputs=inputs, data_samples=samples), (normalised, labels.to(device))

    def _preprocessor(self) -> dict:
        return self.config.get('data_preprocessor') or self.config.model.data_preprocessor

    def _mean_and_std(self) -> list[list[float]]:
        """Of RGB images in 0..1."""
        return [[value / 255 for value in self._preprocessor()[key]] for key in ('mean', 'std')]

    def runner(self, fast: bool, launcher: str = 'none', **keys: object) -> DistillationRunner:
        """Build as tools/train.py does, with the weights of all variants, but no validation.

        Args:
            fast: The mode.
            launcher: Of several processes.
            **keys: Of the config, to set.
        """
        name = f'{Path(self.path).stem}-{next(_numbers)}'
        args = runner_parser('').parse_args(
            [self.path, '--work-dir', str(self.folder / name), '--launcher', launcher]
        )
        args.cfg_options = {**self.options, 'train_dataloader.batch_size': self.batch_size}
        config = prepare_config(args)
        self.change(config)
        config.merge_from_dict(dict(keys, experiment_name=name))
        if fast:
            config.fast = True
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
        config.test_cfg = config.test_dataloader = config.test_evaluator = None
        loader = config.train_dataloader
        loader.setdefault('persistent_workers', loader.get('num_workers', 0) > 0)
        runner = build_runner(config, train=True)
        # Written, as without a terminal, but not to be seen.
        for handler in console_handlers(runner.logger):
            handler.setStream(open('/dev/null', 'w'))
        model_of(runner).load_state_dict(self.weights)
        return runner

    def ours(self, fast: bool, launcher: str = 'none') -> Variant:
        """Steps of the model itself, on batches of the runner's loader."""
        from hsakd.engine.acceleration import accelerate

        runner = self.runner(fast, launcher)
        accelerate(model_of(runner), fast)
        runner.model.train()
        return steps_of(runner, endless(runner.train_loop.dataloader))


def default_batch_size(data: str) -> int:
    """Images in a batch: the issue's for CIFAR, fewer of ImageNet's size."""
    on_gpu = torch.cuda.is_available()
    if data == 'ImageNet':
        return 32 if on_gpu else 4
    return 64 if on_gpu else 16


def model_of(runner: DistillationRunner) -> nn.Module:
    """The model of a runner, without its wrapper."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def networks_of(model: nn.Module) -> list[nn.Module]:
    """Those that learn."""
    return list(getattr(model, 'networks', [getattr(model, 'student', model)]))


def endless(loader: Iterable) -> Iterator:
    """Batches, epoch after epoch."""
    while True:
        yield from loader


def steps_of(runner: DistillationRunner, batches: Iterator) -> Variant:
    """Steps of a runner's model, without the runner."""
    model = model_of(runner)
    return Variant(
        batches=batches,
        train=lambda batch: runner.model.train_step(batch, runner.optim_wrapper)['loss'],
        networks=networks_of(model),
        teacher=getattr(model, 'teacher', None),
        optimizer=runner.optim_wrapper.optimizer,
        teacher_logits=(model, 'teacher_logits'),
    )

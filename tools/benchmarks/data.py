#!/usr/bin/env python
"""Images a second of training data, on data that it makes: from the disk to normalised batches.

Images of CIFAR's size, image by image and in memory; and JPEGs of ImageNet's, decoded in workers,
and cropped, resized, flipped and normalised there, or in part or all on the device. The variants
take turns in this one process.
"""

import argparse
import json
import pickle
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hsakd.utils.cli import check_out_file, positive_number, run_tool  # noqa: E402

DATASETS = Path(__file__).resolve().parents[2] / 'configs/_base_/datasets'
CIFAR_IMAGES, JPEGS = 50_000, 64


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--workers', type=positive_number, default=2, metavar='W', help='of loaders with some (2)')
    add('--rounds', type=positive_number, default=9, metavar='N', help='turns of each variant (9)')
    add('--seconds', type=float, default=1.0, metavar='S', help='of each turn, at least (1)')
    add('--device', default='cpu', help='cpu (default) or cuda')
    add('--out', type=Path, metavar='FILE.json', help='all figures')
    add('--force', action='store_true', help='replace the file')
    return parser.parse_args()


def main() -> None:
    """Make data, time, report."""
    args = parse_args()
    check_out_file(args.out, args.force)
    import hsakd.models  # noqa: F401  registers hsakd's types
    from hsakd.utils.device import find_device
    from hsakd.utils.files import write_files

    device = find_device(args.device)
    MMLogger.get_instance('data', log_level='ERROR')
    rates = {}
    with DefaultScope.overwrite_default_scope('hsakd'), tempfile.TemporaryDirectory() as folder:
        for make in (cifar, imagenet):
            variants = make(Path(folder), args.workers, device)
            rates |= time_in_turns(variants, args.rounds, args.seconds, device)
            del variants  # ends the workers
    report = dict(
        {key: value for key, value in vars(args).items() if key not in ('out', 'force')},
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        images_per_second=rates,
    )
    print_report(report)
    if args.out:
        write_files({args.out: json.dumps(report, indent=2).encode() + b'\n'}, args.force)
        print(args.out)


def cifar(folder: Path, workers: int, device: torch.device) -> dict[str, Iterator[int]]:
    """Ways to CIFAR-100's batches, on an archive of noise in its format."""
    from hsakd.engine.tensor_loader import TensorLoader

    rng = np.random.default_rng(0)
    archive = folder / 'cifar-100-python'
    archive.mkdir()
    content = dict(
        fine_labels=rng.integers(0, 100, CIFAR_IMAGES).tolist(),
        data=rng.integers(0, 256, (CIFAR_IMAGES, 3072), dtype=np.uint8),
    )
    (archive / 'train').write_bytes(pickle.dumps(content, protocol=2))

    config = Config.fromfile(DATASETS / 'cifar100.py')
    config.train_dataloader.dataset.data_root = str(folder)
    by_image = {
        f'CIFAR, image by image, {number} workers': batches(config, number, device)
        for number in (0, workers)
    }
    loader = build(config, 0)
    in_memory = TensorLoader(loader.dataset, loader.batch_sampler, 0, device)
    return by_image | {'CIFAR, in memory': preprocessed(in_memory, config, device)}


def imagenet(folder: Path, workers: int, device: torch.device) -> dict[str, Iterator[int]]:
    """Ways to ImageNet's batches, on JPEGs of 500x375 with about as much detail."""
    rng = np.random.default_rng(0)
    for label in ('n01440764', 'n01443537'):
        (folder / 'train' / label).mkdir(parents=True)
        for index in range(JPEGS // 2):
            coarse = rng.integers(0, 256, (75, 100, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
            image.save(folder / 'train' / label / f'{index}.JPEG', quality=90)
    config = Config.fromfile(DATASETS / 'imagenet.py')
    dataset = config.train_dataloader.dataset
    dataset.update(type='ImageFolder', data_root=str(folder / 'train'))
    dataset.pop('split')

    there = deepcopy(config)  # Config.copy is a shallow one
    there.train_dataloader.dataset.pipeline.insert(
        -1, dict(type='mmpretrain.Normalize', **config.data_preprocessor)
    )
    there.data_preprocessor = {}
    where = 'ImageNet, crop, resize and flip in workers, normalised'
    decoded = deepcopy(config)
    pipeline = decoded.train_dataloader.dataset.pipeline
    decoded.train_dataloader.dataset.pipeline = [pipeline[0], pipeline[-1]]
    return {
        f'{where} there': batches(there, workers, device),
        f'{where} on the device': batches(config, workers, device),
        'ImageNet, all but decoding on the device': preprocessed(
            augmented(build(decoded, workers), device), config, device
        ),
    }


def augmented(loader: torch.utils.data.DataLoader, device: torch.device) -> Iterator[dict]:
    """Crop, resize and flip the images of whole batches on the device, as ImageNet's config does.

    By torchvision, which resizes as Pillow does (antialiased, bilinear); one after the other, since
    each has a crop of its own size.
    """
    from torchvision.transforms import v2

    augment = v2.Compose([v2.RandomResizedCrop(224, antialias=True), v2.RandomHorizontalFlip()])
    for batch in loader:
        images = batch['inputs'].to(device, non_blocking=True)
        yield dict(batch, inputs=torch.stack([augment(image) for image in images]))


def build(config: Config, workers: int) -> torch.utils.data.DataLoader:
    """The loader of a config as in training, without an end."""
    from hsakd.engine.runner import DistillationRunner
    from hsakd.engine.training_data import SeededItems, training_loader

    settings = dict(config.train_dataloader, num_workers=workers)
    settings.pop('in_memory', None)
    settings['collate_fn'] = dict(type='default_collate')
    settings['pin_memory'] = torch.cuda.is_available()
    loader = DistillationRunner.build_dataloader(training_loader(settings, endless=True), seed=0)
    loader.dataset.__getitems__ = SeededItems(loader.dataset, 0)
    return loader


def batches(config: Config, workers: int, device: torch.device) -> Iterator[int]:
    """Normalised batches of a config's loader; see :func:`preprocessed`."""
    return preprocessed(build(config, workers), config, device)


def preprocessed(loader, config: Config, device: torch.device) -> Iterator[int]:
    """Make batch after batch, ready for the model.

    Yields:
        The number of its images.
    """
    from hsakd.models import DataPreprocessor

    preprocessor = DataPreprocessor(**config.data_preprocessor).to(device)
    for batch in loader:
        yield len(preprocessor(batch, training=True)['inputs'])


def time_in_turns(
    variants: dict[str, Iterator[int]], rounds: int, seconds: float, device: torch.device
) -> dict[str, list[float]]:
    """Images a second of each variant, in each round after one to warm up."""

    def now() -> float:
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        return time.perf_counter()

    rates = {name: [] for name in variants}
    for round_ in range(rounds + 1):
        for name, iterator in variants.items():
            for _ in range(8):  # more than workers have ready since the last turn
                next(iterator)
            images, start, elapsed = 0, now(), 0.0
            while elapsed < seconds:
                images += sum(next(iterator) for _ in range(8))
                elapsed = now() - start
            if round_:
                rates[name].append(images / elapsed)
    return rates


def print_report(report: dict) -> None:
    """A table."""
    from rich.console import Console
    from rich.table import Table

    title = 'Images a second to {device}, {threads} threads, torch {torch}'.format(**report)
    table = Table('', 'median', 'quartiles', title=title, title_justify='left')
    for column in table.columns[1:]:
        column.justify = 'right'
    for name, rates in report['images_per_second'].items():
        low, high = np.percentile(rates, (25, 75))
        table.add_row(name, f'{statistics.median(rates):,.0f}', f'{low:,.0f}-{high:,.0f}')
    Console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == '__main__':
    run_tool(main)

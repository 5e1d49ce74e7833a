#!/usr/bin/env python
"""Images a second of training data, on data that it makes: from the disk to normalized batches.

Images of CIFAR's size, image by image and in memory; and JPEGs of ImageNet's, decoded in workers,
and cropped, resized, flipped and normalized there, or in part or all on the device. The variants
take turns in this one process.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

import torch  # noqa: E402
from mmengine.config import Config  # noqa: E402
from timing import (  # noqa: E402
    add_common_options,
    endless,
    interleaved,
    make_cifar,
    make_imagenet,
    quartiles,
    run_benchmark,
    training_runner,
)
from torchvision.transforms import v2  # noqa: E402

from hsakd.utils.cli import run_tool  # noqa: E402
from hsakd.utils.networks import unwrap  # noqa: E402

CIFAR = str(ROOT / 'configs/baseline/resnet20_1xb64-240e_cifar100.py')
IMAGENET = str(ROOT / 'configs/baseline/resnet18_8xb32-100e_imagenet.py')
BATCH = 64
IMAGES = {'cifar': 50_000, 'imagenet': 64}
UNTIMED = 8  # batches, more than workers have ready since the last turn


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--seconds', type=float, default=1.0, metavar='S', help='of each turn, at least (1)'
    )
    add_common_options(parser)
    return parser.parse_args()


def main() -> None:
    """Make data, time, report."""
    args = parse_args()

    def measure(folder: Path) -> Iterator[tuple]:
        for images, variants in (('CIFAR', cifar), ('ImageNet', imagenet)):
            batches = variants(folder, args.workers or 2, args.cfg_options)
            steps = {name: lambda b=b: next(b) for name, b in batches.items()}
            seconds = interleaved(steps, args.steps, args.seconds, UNTIMED)
            for name, of_rounds in seconds.items():
                yield images, name, quartiles(BATCH / s for s in of_rounds)

    run_benchmark(args, measure, ('images', 'loading', 'images/s'))


def cifar(folder: Path, workers: int, options: dict) -> dict[str, Iterator[dict]]:
    """Ways to CIFAR-100's batches."""
    make_cifar(folder, IMAGES['cifar'])

    def batches(workers: int, in_memory: bool) -> Iterator[dict]:
        def change(config: Config) -> None:
            config.train_dataloader.in_memory = in_memory

        return normalized(CIFAR, folder, workers, options, change)

    found = {f'image by image, {w} workers': batches(w, False) for w in (0, workers)}
    return found | {'in memory': batches(0, True)}


def imagenet(folder: Path, workers: int, options: dict) -> dict[str, Iterator[dict]]:
    """Ways to ImageNet's batches."""
    make_imagenet(folder, IMAGES['imagenet'])

    def normalized_there(config: Config) -> None:
        pipeline = config.train_dataloader.dataset.pipeline
        normalize = dict(type='mmpretrain.Normalize', **config.data_preprocessor)
        config.train_dataloader.dataset.pipeline = [*pipeline[:-1], normalize, pipeline[-1]]
        config.data_preprocessor = {}

    def only_decoded(config: Config) -> None:
        pipeline = config.train_dataloader.dataset.pipeline
        config.train_dataloader.dataset.pipeline = [pipeline[0], pipeline[-1]]

    def batches(change: Callable, augment: Callable | None = None) -> Iterator[dict]:
        return normalized(IMAGENET, folder, workers, options, change, augment)

    # One image after the other, since each has a crop of its own size; as Pillow resizes.
    augment = v2.Compose([v2.RandomResizedCrop(224, antialias=True), v2.RandomHorizontalFlip()])
    return {
        'all done in workers': batches(normalized_there),
        'normalized on the device': batches(lambda config: None),
        'all but decoding on the device': batches(only_decoded, augment),
    }


def normalized(
    path: str,
    folder: Path,
    workers: int,
    options: dict,
    change: Callable[[Config], None],
    augment: Callable | None = None,
) -> Iterator[dict]:
    """Batches of a config's loader, on the device and ready for the model, without an end.

    The config is changed by ``change``, and images are augmented one by one on the device.
    """
    loader = dict(batch_size=BATCH, num_workers=workers, persistent_workers=workers > 0)
    loader['dataset.data_root'] = str(folder)
    options = {f'train_dataloader.{key}': value for key, value in loader.items()} | options
    runner = training_runner(path, folder, options, change)
    preprocessor = unwrap(runner.model).data_preprocessor
    device = next(runner.model.parameters()).device
    for batch in endless(runner.train_loop.dataloader):
        if augment:
            images = batch['inputs'].to(device, non_blocking=True)
            batch = dict(batch, inputs=torch.stack([augment(image) for image in images]))
        yield preprocessor(batch, training=True)


if __name__ == '__main__':
    run_tool(main)

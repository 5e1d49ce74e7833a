"""What the networks of the paper's authors computed, and the weights and images they did it with.

Every weight and every image is a function of a name alone, so none is stored. ``data/golden`` holds
the outputs, in float64, and ``architectures.json.gz``: for each published network with auxiliary
branches its parameter counts, the shapes of its stage feature maps, and the keys and shapes of its
state dict in the authors' layout.
"""

import functools
import gzip
import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_DATA = Path(__file__).parent / 'data' / 'golden'

#: Our name of each network of the authors.
NETWORKS = {
    'ResNet50_aux': 'resnet50',
    'ShuffleV1_aux': 'shufflenet-v1',
    'ShuffleV2_aux': 'shufflenet-v2',
    'mobilenetV2_aux': 'mobilenet-v2',
    'resnet18_imagenet_aux': 'resnet18',
    'resnet20_aux': 'resnet20',
    'resnet32x4_aux': 'resnet32x4',
    'resnet34_imagenet_aux': 'resnet34',
    'resnet56_aux': 'resnet56',
    'resnet8x4_aux': 'resnet8x4',
    'vgg13_bn_aux': 'vgg13',
    'wrn_16_2_aux': 'wrn-16-2',
    'wrn_40_1_aux': 'wrn-40-1',
    'wrn_40_2_aux': 'wrn-40-2',
}


@functools.cache
def architectures() -> dict[str, dict]:
    """Facts about each of the authors' networks."""
    return json.loads(gzip.decompress((_DATA / 'architectures.json.gz').read_bytes()))


def golden(name: str) -> dict[str, np.ndarray]:
    """Stored outputs, e.g. of 'forward_resnet20_aux'."""
    with np.load(_DATA / f'{name}.npz') as arrays:
        return dict(arrays)


def batch(step: int, num: int = 4, num_classes: int = 100, size: int = 32) -> tuple[Tensor, Tensor]:
    """Images [num, 3, size, size], normalized and not rotated, and labels [num]."""
    rng = _rng(f'batch/{step}/{size}')
    images = rng.standard_normal((num, 3, size, size))
    return torch.from_numpy(images), torch.from_numpy(rng.integers(0, num_classes, num))


def official_state_dict(
    arch: str, salt: str = '', dtype: torch.dtype = torch.float64
) -> dict[str, Tensor]:
    """Weights of a network in the authors' layout; another ``salt``, another network."""
    weights = {}
    for key, shape in architectures()[arch]['state_dict'].items():
        value = torch.from_numpy(np.array(_fill(key, tuple(shape), salt)))
        weights[key] = value.to(dtype) if value.is_floating_point() else value
    return weights


def _rng(name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def _fill(key: str, shape: tuple[int, ...], salt: str) -> np.ndarray:
    rng = _rng(f'{salt}/{key}')
    leaf = key.rsplit('.', 1)[-1]
    if leaf == 'num_batches_tracked':
        return np.zeros(shape, dtype=np.int64)
    if leaf in ('running_mean', 'bias'):
        return 0.1 * rng.standard_normal(shape)
    if leaf == 'running_var':
        return 0.5 + rng.random(shape)
    if len(shape) == 1:  # scale of a normalization layer
        return 0.5 + 0.2 * rng.random(shape)
    return rng.standard_normal(shape) * np.sqrt(2.0 / int(np.prod(shape[1:])))

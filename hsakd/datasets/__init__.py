"""Data sets that read real layouts as they are, and say what is wrong with them."""

# ruff: noqa: E402
from importlib.util import find_spec

from hsakd.utils.third_party import import_quietly

import_quietly('mmpretrain.datasets')

from .batch_samplers import ClassBatchSampler, PairBatchSampler, RepeatedBatchSampler
from .cifar import CIFAR10, CIFAR100
from .digits import Digits
from .few_shot import FewShotSubset
from .image_folder import ImageFolder, LoadImage
from .imagenet import ImageNet
from .stl10 import STL10
from .tiny_imagenet import TinyImageNet

if find_spec('mmdet'):
    from . import detection  # noqa: F401  registers its data sets

__all__ = [
    'CIFAR10',
    'CIFAR100',
    'ClassBatchSampler',
    'Digits',
    'FewShotSubset',
    'ImageFolder',
    'ImageNet',
    'LoadImage',
    'PairBatchSampler',
    'RepeatedBatchSampler',
    'STL10',
    'TinyImageNet',
]

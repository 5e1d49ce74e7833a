"""Data sets that read real layouts as they are, and say what is wrong with them."""

# ruff: noqa: E402
from hsakd.utils.third_party import import_quietly

import_quietly('mmpretrain.datasets')

from .cifar import CIFAR10, CIFAR100
from .digits import Digits
from .image_folder import ImageFolder, LoadImage

__all__ = ['CIFAR10', 'CIFAR100', 'Digits', 'ImageFolder', 'LoadImage']

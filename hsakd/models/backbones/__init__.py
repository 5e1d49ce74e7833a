"""The paper's networks for 32x32 images; their stages are reachable as a list.

ResNet-50 for 32x32 images and ImageNet's ResNets are mmpretrain's ``ResNet_CIFAR`` and ``ResNet``.
"""

from .base import StagedBackbone
from .cifar_resnet import CIFARResNet
from .mobilenet_v2 import CIFARMobileNetV2
from .shufflenet_v1 import CIFARShuffleNetV1
from .shufflenet_v2 import CIFARShuffleNetV2
from .vgg import CIFARVGG
from .wide_resnet import WideResNet

__all__ = [
    'CIFARMobileNetV2',
    'CIFARResNet',
    'CIFARShuffleNetV1',
    'CIFARShuffleNetV2',
    'CIFARVGG',
    'StagedBackbone',
    'WideResNet',
]

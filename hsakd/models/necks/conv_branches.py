import copy
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor

from hsakd.models.backbones.stages import run_stages
from hsakd.models.backbones.starting_weights import NORMAL
from hsakd.registry import MODELS
from hsakd.utils.errors import ConfigError
from hsakd.utils.networks import image_channels

from .base import Branches


@MODELS.register_module()
class ConvBranches(Branches):
    """Generic branches of plain convolutions, for backbones whose stages cannot be copied.

    They follow the rule of :class:`AuxiliaryBranches` with stages that are a 3x3 convolution, batch
    norm and ReLU each: stage l has the channels of the backbone's map l, and the stride from map
    l-1 to it. These are found in a forward pass of one blank image through a copy of the backbone.
    Embeddings have the channels of the last map.

    Args:
        backbone: The backbone to branch off. It returns the maps [N, C_l, H_l, W_l] of two or more
            stages, none larger than the one before; with mmpretrain's, set ``out_indices``.
        stages: The stages (from 0) that have a branch. All by default.
        input_size: Height and width of the blank image, in pixels.

    Raises:
        ConfigError: The backbone does not return such maps, or ``stages`` names others.
    """

    def __init__(
        self, backbone: BaseModule, stages: Sequence[int] | None = None, input_size: int = 224
    ) -> None:
        maps = _blank_maps(backbone, input_size)
        channels = [m.shape[1] for m in maps]
        strides = [1, *(round(a.shape[2] / b.shape[2]) for a, b in pairwise(maps))]
        super().__init__(
            backbone,
            num_stages=len(maps),
            stages=stages,
            make_stage=lambda i: _make_stage(channels[i - 1], channels[i], strides[i]),
            repeat_last=partial(_make_stage, channels[-1], channels[-1], stride=1),
            embedding_channels=channels[-1],
            init_cfg=NORMAL,
        )


def _make_stage(in_channels: int, out_channels: int, stride: int) -> BaseModule:
    return ConvModule(in_channels, out_channels, 3, stride, padding=1, norm_cfg=dict(type='BN'))


def _blank_maps(backbone: BaseModule, input_size: int) -> Sequence[Tensor]:
    """Feature maps of one blank image; ``backbone`` and the random state stay as they are."""
    backbone = copy.deepcopy(backbone)
    backbone.eval()
    image = torch.zeros(1, image_channels(backbone), input_size, input_size)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        maps = run_stages(backbone, image).stage_maps
    shapes = [tuple(m.shape) for m in maps] if isinstance(maps, list | tuple) else []
    ConfigError.check(
        len(shapes) > 1
        and all(len(shape) == 4 for shape in shapes)
        and all(a[2] >= b[2] for a, b in pairwise(shapes)),
        "branches.type='ConvBranches'",
        'feature maps [N, C, H, W] of two or more stages, none larger than the one before, e.g. '
        'with backbone.out_indices=(0, 1, 2, 3)',
        f'{shapes or maps} of {type(backbone).__name__} for {input_size}x{input_size} pixels',
    )
    return maps

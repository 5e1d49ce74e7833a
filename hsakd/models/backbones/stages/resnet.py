"""ResNet and its subclasses (V1c, V1d, ResNeXt, SEResNet, RegNet, ..): ``layer1`` and so on.

Their stages are those of ``out_indices``, in ImageNet networks at strides 4, 8, 16 and 32. There is
no tail.
"""

from itertools import takewhile

import torch.nn.functional as F
from mmpretrain.models.backbones import RegNet, ResNet
from mmpretrain.models.backbones.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from .interface import (
    Stages,
    check_outputs,
    repeat_blocks,
    repeat_last_stage,
    run_before_relu,
    split_stages,
)


@split_stages.register
def _(backbone: ResNet) -> Stages:
    check_outputs(backbone, len(backbone.res_layers) - 1)
    stem = takewhile(lambda child: child[0] != backbone.res_layers[0], backbone.named_children())
    return Stages(
        stem=nn.Sequential(*(module for _, module in stem)),
        stages=[getattr(backbone, name) for name in backbone.res_layers],
        channels=backbone.feat_dim,
    )


@repeat_last_stage.register
def _(backbone: ResNet) -> nn.Module:
    stage = getattr(backbone, backbone.res_layers[-1])
    return backbone.make_res_layer(
        block=backbone.block,
        num_blocks=len(stage),
        in_channels=backbone.feat_dim,
        out_channels=backbone.feat_dim,
        expansion=backbone.expansion,
        stride=1,
        dilation=backbone.dilations[-1],
        style=backbone.style,
        avg_down=backbone.avg_down,
        with_cp=backbone.with_cp,
        conv_cfg=backbone.conv_cfg,
        norm_cfg=backbone.norm_cfg,
        drop_path_rate=[getattr(block.drop_path, 'drop_prob', 0.0) for block in stage],
    )


@repeat_last_stage.register
def _(backbone: RegNet) -> nn.Module:
    return repeat_blocks(getattr(backbone, backbone.res_layers[-1]))


@run_before_relu.register(BasicBlock)
@run_before_relu.register(Bottleneck)
def _(block: BasicBlock | Bottleneck, x: Tensor) -> tuple[Tensor, Tensor]:
    out = block.relu(block.norm1(block.conv1(x)))
    out = block.norm2(block.conv2(out))
    if isinstance(block, Bottleneck):
        out = block.norm3(block.conv3(block.relu(out)))
    identity = x if block.downsample is None else block.downsample(x)
    out = block.drop_path(out) + identity
    return F.relu(out), out

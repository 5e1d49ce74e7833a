"""ResNet and its subclasses (V1c, V1d, ResNeXt, SEResNet, RegNet, ..): ``layer1`` and so on.

Their stages are those of ``out_indices``, in ImageNet networks at strides 4, 8, 16 and 32. There is
no tail.
"""

from itertools import takewhile

from mmpretrain.models.backbones import RegNet, ResNet
from torch import nn

from .interface import Stages, check_outputs, repeat_blocks, repeat_last_stage, split_stages


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

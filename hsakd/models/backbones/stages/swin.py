"""Swin Transformer: four stages at strides 4, 8, 16 and 32.

Each but the first begins with the patch merging that mmpretrain keeps at the end of the stage
before; a last stage at stride 1 leaves it out. The tail is the norm of the last output. Earlier
maps are tapped without a norm. Tokens [N, H * W, C] become maps [N, C, H, W] between stages.
"""

from mmengine.model import BaseModule
from mmpretrain.models.backbones import SwinTransformer
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn
from torchvision.ops import Permute

from .interface import Stages, check_outputs, fresh_copy, repeat_last_stage, split_stages


class SwinStage(BaseModule):
    """Patch merging, where there is one, and the blocks of one stage, on maps.

    Args:
        downsample: Patch merging, or None.
        blocks: The transformer blocks.
    """

    def __init__(self, downsample: nn.Module | None, blocks: nn.Module) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = blocks

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] to [N, C_out, H / stride, W / stride]."""
        hw = tuple(x.shape[2:])
        x = x.flatten(2).transpose(1, 2)
        if self.downsample is not None:
            x, hw = self.downsample(x, hw)
        for block in self.blocks:
            x = block(x, hw)
        return x.transpose(1, 2).unflatten(2, hw)


@split_stages.register
def _(backbone: SwinTransformer) -> Stages:
    last = backbone.num_layers - 1
    check_outputs(backbone, last)

    def stem(images: Tensor) -> Tensor:
        x, hw = backbone.patch_embed(images)
        if backbone.use_abs_pos_embed:
            x = x + resize_pos_embed(
                backbone.absolute_pos_embed,
                backbone.patch_resolution,
                hw,
                backbone.interpolate_mode,
                backbone.num_extra_tokens,
            )
        return backbone.drop_after_pos(x).transpose(1, 2).unflatten(2, hw)

    mergings = [None, *(stage.downsample for stage in backbone.stages)]
    norm = getattr(backbone, f'norm{last}')
    return Stages(
        stem=stem,
        stages=[SwinStage(mergings[i], stage.blocks) for i, stage in enumerate(backbone.stages)],
        channels=backbone.stages[-1].embed_dims,
        tail=nn.Sequential(Permute([0, 2, 3, 1]), norm, Permute([0, 3, 1, 2])),
    )


@repeat_last_stage.register
def _(backbone: SwinTransformer) -> nn.Module:
    return fresh_copy(SwinStage(None, backbone.stages[-1].blocks))

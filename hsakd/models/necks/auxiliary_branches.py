from collections import OrderedDict
from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from hsakd.models.backbones.stages import make_stage, make_tail, stage_channels
from hsakd.registry import MODELS
from hsakd.utils.errors import ConfigError


@MODELS.register_module()
class AuxiliaryBranches(ModuleList):
    """One branch for each stage of a backbone, made of the backbone's own stages (section 3.1).

    The branch at stage l is a fresh copy of stages l+1..L and of the tail; the branch at the last
    stage L is a fresh copy of stage L at stride 1 with as many input as output channels. Global
    average pooling follows.

    Args:
        backbone: The backbone to branch off; its weights are not shared.
        stages: The stages (from 0) that have a branch. All by default.
    """

    def __init__(self, backbone: BaseModule, stages: Sequence[int] | None = None) -> None:
        super().__init__(init_cfg=_layer_init(backbone.init_cfg))
        channels = stage_channels(backbone)
        last = len(channels) - 1
        self.stages = tuple(range(len(channels)) if stages is None else stages)
        if not self.stages or not set(self.stages) <= set(range(len(channels))):
            raise ConfigError(
                f'branches.stages={list(self.stages)}: accepted are one or more of '
                f'0..{last}, the stages of {type(backbone).__name__}'
            )
        for tap in self.stages:
            branch = OrderedDict()
            if tap == last:
                branch[f'stage{last + 1}'] = make_stage(backbone, last, channels[last], stride=1)
            for i in range(tap + 1, last + 1):
                branch[f'stage{i + 1}'] = make_stage(
                    backbone, i, channels[i - 1], stride=backbone.strides[i]
                )
            branch['tail'] = make_tail(backbone)
            self.append(nn.Sequential(branch))

    def forward(self, feature_maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Pooled embeddings [N, C], one a branch.

        Args:
            feature_maps: Of each stage of the backbone, [N, C_l, H_l, W_l].
        """
        maps = (branch(feature_maps[tap]) for branch, tap in zip(self, self.stages, strict=True))
        return tuple(F.adaptive_avg_pool2d(m, 1).flatten(1) for m in maps)


def _layer_init(init_cfg: dict | list[dict] | None) -> list[dict]:
    """The part of a backbone's ``init_cfg`` that is about kinds of layers, not about weights."""
    cfgs = [init_cfg] if isinstance(init_cfg, dict) else init_cfg or []
    return [dict(cfg) for cfg in cfgs if cfg['type'] != 'Pretrained']

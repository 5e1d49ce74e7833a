from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList, Sequential
from torch import Tensor, nn

from hsakd.utils.errors import ConfigError


class Branches(ModuleList):
    """One branch for each of a backbone's stages: feature maps in, pooled embeddings out.

    Args:
        backbone: The backbone to branch off.
        num_stages: Stages that it has.
        stages: The stages (from 0) that have a branch; None for all.
        make_stage: Makes a fresh stage (from 0) of a branch.
        repeat_last: Makes a fresh last stage at stride 1, with as many input as output channels.
        embedding_channels: Size of every branch's embedding.
        make_tail: Makes what follows the last stage of a branch.
        init_cfg: Initialization config.

    Raises:
        ConfigError: ``stages`` names none, or others than the backbone has.
    """

    def __init__(
        self,
        backbone: BaseModule,
        num_stages: int,
        stages: Sequence[int] | None,
        make_stage: Callable[[int], nn.Module],
        repeat_last: Callable[[], nn.Module],
        embedding_channels: int,
        make_tail: Callable[[], nn.Module] | None = None,
        init_cfg: list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        chosen = range(num_stages) if stages is None else stages
        ConfigError.check(
            isinstance(stages, list | tuple | None)
            and chosen
            and set(chosen) <= set(range(num_stages)),
            'branches.stages',
            f'a list of one or more of 0..{num_stages - 1}, the stages of '
            f'{type(backbone).__name__}',
            repr(stages),
        )
        self.stages = tuple(chosen)
        for tap in self.stages:
            branch = OrderedDict()
            if tap == num_stages - 1:
                branch[f'stage{num_stages}'] = repeat_last()
            for i in range(tap + 1, num_stages):
                branch[f'stage{i + 1}'] = make_stage(i)
            if make_tail:
                branch['tail'] = make_tail()
            self.append(Sequential(branch))
        self.embedding_channels = embedding_channels

    def forward(self, feature_maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Pooled embeddings [N, C], one a branch.

        Args:
            feature_maps: Of each stage of the backbone, [N, C_l, H_l, W_l].
        """
        return tuple(map(pool, self.last_maps(feature_maps)))

    def last_maps(self, feature_maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What is pooled: a map [N, C, H, W] a branch; an embedding [N, C] where its tail pools."""
        pairs = zip(self, self.stages, strict=True)
        return tuple(branch(feature_maps[tap]) for branch, tap in pairs)


def pool(features: Tensor) -> Tensor:
    """Global average [N, C] of a map [N, C, H, W]; an embedding [N, C] stays as it is."""
    return features if features.ndim == 2 else F.adaptive_avg_pool2d(features, 1).flatten(1)

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList
from torch import Tensor

from hsakd.utils.errors import ConfigError


class Branches(ModuleList):
    """One branch for each of a backbone's stages: feature maps in, pooled embeddings out.

    Args:
        backbone: The backbone to branch off.
        num_stages: Stages that it has.
        stages: The stages (from 0) that have a branch; None for all.
        make_branch: Makes the branch at a stage, from its map to the one that is pooled.
        embedding_channels: Size of every branch's embedding.
        init_cfg: Initialisation config.

    Raises:
        ConfigError: ``stages`` names none, or others than the backbone has.
    """

    def __init__(
        self,
        backbone: BaseModule,
        num_stages: int,
        stages: Sequence[int] | None,
        make_branch: Callable[[int], BaseModule],
        embedding_channels: int,
        init_cfg: list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        chosen = range(num_stages) if stages is None else stages
        ConfigError.check(
            isinstance(stages, list | tuple | None)
            and chosen
            and len(set(chosen)) == len(chosen)
            and set(chosen) <= set(range(num_stages)),
            'branches.stages',
            f'a list of one or more of 0..{num_stages - 1}, the stages of '
            f'{type(backbone).__name__}, each once',
            repr(stages),
        )
        self.stages = tuple(chosen)
        self.extend(make_branch(tap) for tap in self.stages)
        self.embedding_channels = embedding_channels

    def forward(self, feature_maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Pooled embeddings [N, C], one a branch.

        Args:
            feature_maps: Of each stage of the backbone, [N, C_l, H_l, W_l].
        """
        maps = (branch(feature_maps[tap]) for branch, tap in zip(self, self.stages, strict=True))
        return tuple(_pool(m) for m in maps)


def _pool(features: Tensor) -> Tensor:
    """Global average [N, C] of a map [N, C, H, W]; an embedding [N, C] stays as it is."""
    return features if features.ndim == 2 else F.adaptive_avg_pool2d(features, 1).flatten(1)

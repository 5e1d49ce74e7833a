from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hsakd.models.method import Batch
from hsakd.models.necks.base import pool
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS
from hsakd.utils.checks import check_one_of

from .base import SelfDistiller


@MODELS.register_module()
class ONE(SelfDistiller):
    """Sum_i [CE(z_i, y) + KL_3(z_i || t)] + CE(t, y): native ensemble (arXiv:1806.04606).

    z_i are of the network and its branches, which share all but its last stage; t = sum_i g_i z_i,
    where g is a softmax of a gate on the map that they share. Of the branches, with M = 4, as in
    the table that others are compared in; the authors' KL grows by a ramp
    (``loss_weights.loss_kd=dict(weight=1.0, ramp_epochs=80)``).

    Args:
        *args: Of :class:`SelfDistiller`; the student has branches ``stages=[1, 1, 1]`` of three.
        level: Of the shared map, as in ``maps``.
        kd_loss: Config of KL.
        **kwargs: Of :class:`SelfDistiller`.
    """

    default_weights = dict(loss_cls=1.0, loss_ensemble=1.0, loss_kd=1.0)
    taps = ('maps',)
    branched = True

    def __init__(self, *args, level: int = -2, kd_loss: dict | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        (shapes,) = self.shapes
        check_one_of(*range(-len(shapes.maps), len(shapes.maps)), level=level)
        self.level, heads = level, 1 + len(shapes.joint_logits)
        self.gate, self.gate_norm = nn.Linear(shapes.maps[level][0], heads), nn.BatchNorm1d(heads)
        self.kl = MODELS.build(kd_loss or dict(type='KLDivergence', temperature=3.0))

    def compare(self, o: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """All terms of logits [B, K] and the shared map [B, C, H, W]."""
        z = [o.logits, *o.joint_logits]
        g = self.gate_norm(self.gate(pool(o.maps[self.level]))).relu().softmax(1)
        return self.terms(z, (g[:, :, None] * torch.stack(z, dim=1)).sum(1), y)

    def terms(self, z: Sequence[Tensor], t: Tensor, y: Tensor) -> dict[str, Tensor]:
        """All terms of logits [B, K] of each head and of the ensemble."""
        return dict(
            loss_cls=sum(self.cross_entropy(z_i, y) for z_i in z),
            loss_ensemble=self.cross_entropy(t, y),
            loss_kd=sum(self.kl(z_i, t) for z_i in z),
        )

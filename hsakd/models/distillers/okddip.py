import torch
from torch import Tensor, nn

from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS

from .base import SelfDistiller


@MODELS.register_module()
class OKDDip(SelfDistiller):
    """CE of all + r(e) (sum_j KL_3(z_j || u_j) + KL_3(z_lead || mean_j z_j)): arXiv:1912.00350.

    The leader is the network, its peers are the branches, which share all but its last stage. The
    target u_j of a peer mixes the peers' logits by attention between their embeddings, which learns
    by the gradient of the targets; r(e) = exp(-5 (1 - e / 80)^2).

    Args:
        *args: Of :class:`SelfDistiller`; the student has branches ``stages=[1, 1, 1]`` of three.
        kd_loss: Config of KL. With ``detach=True`` targets get no gradient, and attention does not
            learn; the authors' has ``eps=1e-7``.
        **kwargs: Of :class:`SelfDistiller`.
    """

    default_weights = dict(
        loss_cls=1.0,
        loss_peers_cls=1.0,
        loss_kd=dict(weight=1.0, ramp_epochs=80),
        loss_peers_kd=dict(weight=1.0, ramp_epochs=80),
    )
    taps = ('branch_embeddings',)
    branched = True

    def __init__(self, *args, kd_loss: dict | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        d = self.shapes[0].branch_embeddings[0][0]
        self.query, self.key = (nn.Linear(d, d // 8, bias=False) for _ in range(2))
        self.kl = MODELS.build(kd_loss or dict(type='KLDivergence', temperature=3.0, detach=False))

    def compare(self, o: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """All terms of logits [B, K] and embeddings [B, D]."""
        peers, h = torch.stack(o.joint_logits, dim=1), torch.stack(o.branch_embeddings, dim=1)
        a = (self.query(h) @ self.key(h).mT).softmax(2)  # image, j, k
        pairs = list(zip(peers.unbind(1), (a @ peers).unbind(1), strict=True))
        return dict(
            loss_cls=self.cross_entropy(o.logits, y),
            loss_peers_cls=sum(self.cross_entropy(z_j, y) for z_j, _ in pairs),
            loss_kd=self.kl(o.logits, peers.mean(1)),
            loss_peers_kd=sum(self.kl(z_j, u_j) for z_j, u_j in pairs),
        )

import torch
from torch import Tensor

from hsakd.models.losses.contrast import unit
from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS
from hsakd.utils.checks import check_numbers

from .base import SelfDistiller


@MODELS.register_module()
class BAKE(SelfDistiller):
    """CE + KL_4(z || Q), Q = (1 - w) (I - w W)^-1 p_4(z): batch ensembling (arXiv:2104.13298).

    W are shares of the cosines of each image with the others of its batch, which has three more of
    its class. The published code, and this, puts Q through softmax(Q / 4) again. Images are those
    that one process sees.

    Args:
        *args: Of :class:`SelfDistiller`.
        omega: w.
        kd_loss: Config of KL.
        **kwargs: Of :class:`SelfDistiller`.
    """

    default_weights = dict(loss_cls=1.0, loss_kd=1.0)
    taps = ('embedding',)
    batch_sampler = dict(type='PairBatchSampler', partners=3)

    def __init__(self, *args, omega: float = 0.5, kd_loss: dict | None = None, **kwargs) -> None:
        check_numbers(0, 1, omega=omega)
        super().__init__(*args, **kwargs)
        self.omega = omega
        self.kl = MODELS.build(kd_loss or dict(type='KLDivergence', temperature=4.0))

    def compare(self, o: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Both terms of logits [B, K] and embeddings [B, D]."""
        return dict(
            loss_cls=self.cross_entropy(o.logits, y),
            loss_kd=self.kl(o.logits, self.ensemble(o.logits, o.embedding)),
        )

    @torch.no_grad()
    def ensemble(self, z: Tensor, h: Tensor) -> Tensor:
        """Q [B, K]."""
        with torch.autocast(z.device.type, enabled=False):
            v, same = unit(h), torch.eye(len(h), dtype=h.dtype, device=h.device)
            w = (v @ v.T - 1e9 * same).softmax(1)
            p = (z / self.kl.temperature).softmax(1).to(h.dtype)
            return (1 - self.omega) * torch.linalg.solve(same - self.omega * w, p)

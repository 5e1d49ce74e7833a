import torch
from torch import Tensor

from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS

from .base import SelfDistiller


@MODELS.register_module()
class CSKD(SelfDistiller):
    """CE(z(x), y) + KL_4(z(x) || z(x')): class-wise self-distillation (arXiv:2003.13964).

    x' is a random image of the class of x, perhaps itself; no gradient flows into what it gives.

    Args:
        *args: Of :class:`SelfDistiller`.
        kd_loss: Config of KL.
        **kwargs: Of :class:`SelfDistiller`.
    """

    default_weights = dict(loss_cls=1.0, loss_kd=1.0)
    batch_sampler = dict(type='PairBatchSampler')

    def __init__(self, *args, kd_loss: dict | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.kl = MODELS.build(kd_loss or dict(type='KLDivergence', temperature=4.0))

    def losses(self, x: Tensor, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Of B images and then those that they are paired with [2 * B, C, H, W]."""
        images, others = x.chunk(2)
        outputs = self.student.outputs(images)
        with torch.no_grad():
            pair = self.student.outputs(others)
        return self.compare(outputs, pair, y[: len(images)], batch)

    def compare(self, o: Outputs, pair: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Both terms of logits [B, K]."""
        loss_cls, loss_kd = self.cross_entropy(o.logits, y), self.kl(o.logits, pair.logits)
        return dict(loss_cls=loss_cls, loss_kd=loss_kd)

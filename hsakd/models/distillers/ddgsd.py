from torch import Tensor

from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS

from .base import SelfDistiller


@MODELS.register_module()
class DDGSD(SelfDistiller):
    """0.25 sum_i CE(z_i, y) + KL_4 both ways + 5e-4 (mean h_0 - mean h_1)^2: two distorted views.

    Data-distortion guided self-distillation (AAAI 2019, Xu and Liu), by a library's code: the last
    term is of one number, the mean of all embeddings; the paper's is of vectors.

    Args:
        *args: Of :class:`SelfDistiller`.
        kd_loss: Config of KL.
        **kwargs: Of :class:`SelfDistiller`.
    """

    default_weights = dict(loss_cls=0.25, loss_kd=1.0, loss_mmd=5e-4)
    taps = ('embedding',)
    batch_sampler = dict(type='RepeatedBatchSampler', views=2)

    def __init__(self, *args, kd_loss: dict | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.kl = MODELS.build(kd_loss or dict(type='KLDivergence', temperature=4.0))

    def losses(self, x: Tensor, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Of images [2 * B, C, H, W], the two views of an image in a row."""
        o = self.student.outputs(x)
        views = (Outputs(o.logits[i::2], embedding=o.embedding[i::2]) for i in (0, 1))
        return self.compare(*views, y[::2], batch)

    def compare(self, o: Outputs, other: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """All terms of logits [B, K] and embeddings [B, D] of both views."""
        z_0, z_1 = o.logits, other.logits
        return dict(
            loss_cls=self.cross_entropy(z_0, y) + self.cross_entropy(z_1, y),
            loss_kd=self.kl(z_0, z_1) + self.kl(z_1, z_0),
            loss_mmd=(o.embedding.mean() - other.embedding.mean()) ** 2,
        )

from collections.abc import Sequence

from torch import Tensor

from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS

from .base import OnlineDistiller


@MODELS.register_module()
class KDCL(OnlineDistiller):
    """Sum_i 0.5 CE(z_i, y) + 0.5 KL_4(z_i || mean_j z_j): collaborative learning (CVPR 2020, Guo).

    Every network sees images augmented for itself. This is the public port's naive mean of logits;
    the paper has other ways to combine them.

    Args:
        networks: Of :class:`OnlineDistiller`.
        kd_loss: Config of KL.
        **kwargs: Of :class:`OnlineDistiller`.
    """

    default_weights = dict(loss_cls=0.5, loss_kd=0.5)

    def __init__(self, networks: Sequence, kd_loss: dict | None = None, **kwargs) -> None:
        super().__init__(networks, **kwargs)
        self.kl = MODELS.build(kd_loss or dict(type='KLDivergence', temperature=4.0))
        self.batch_sampler = dict(type='RepeatedBatchSampler', views=len(networks))

    def losses(self, x: Tensor, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Of images [M * B, C, H, W], the M views of an image in a row."""
        m = len(self.networks)
        outputs = [network.outputs(x[i::m]) for i, network in enumerate(self.networks)]
        return self.compare(outputs, y[::m], batch)

    def compare(self, outputs: Sequence[Outputs], y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Both terms of every network, of logits [B, K]."""
        losses, z = {}, [o.logits for o in outputs]
        mean = sum(z) / len(z)
        for i, z_i in enumerate(z):
            losses[f'net{i}_loss_cls'] = self.cross_entropy(z_i, y, i)
            losses[f'net{i}_loss_kd'] = self.kl(z_i, mean)
        return losses

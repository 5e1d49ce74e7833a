from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS
from hsakd.utils.checks import check_one_of

from .base import OnlineDistiller


@MODELS.register_module()
class DML(OnlineDistiller):
    """Sum_i CE(z_i, y) + mean_(j != i) KL_1(z_i || z_j): deep mutual learning (arXiv:1706.00384).

    All networks are updated together, by predictions from before the update; the paper updates one
    after the other.

    Args:
        *args: Of :class:`OnlineDistiller`.
        target: 'each' of the others, or the 'mean' of their logits.
        kd_loss: Config of KL; other tables than the paper's were made with temperature 2 or 3.
        **kwargs: Of :class:`OnlineDistiller`.
    """

    default_weights = dict(loss_cls=1.0, loss_kd=1.0)

    def __init__(
        self,
        *args,
        target: Literal['each', 'mean'] = 'each',
        kd_loss: dict | None = None,
        **kwargs,
    ) -> None:
        check_one_of('each', 'mean', target=target)
        super().__init__(*args, **kwargs)
        self.target = target
        self.kl = MODELS.build(kd_loss or dict(type='KLDivergence', temperature=1.0))

    def compare(self, outputs: Sequence[Outputs], y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Both terms of every network, of logits [B, K]."""
        losses, z = {}, [o.logits for o in outputs]
        for i, z_i in enumerate(z):
            others = z[:i] + z[i + 1 :]
            targets = others if self.target == 'each' else [sum(others) / len(others)]
            losses[f'net{i}_loss_cls'] = self.cross_entropy(z_i, y, i)
            losses[f'net{i}_loss_kd'] = sum(self.kl(z_i, z_j) for z_j in targets) / len(targets)
        return losses

from torch import Tensor

from hsakd.models.backbones.stages import find_stages
from hsakd.models.method import Batch
from hsakd.models.necks.tree_branches import divide_gradient
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS

from .base import SelfDistiller


@MODELS.register_module()
class CLILR(SelfDistiller):
    """Sum_i 0.5 CE(z_i, y) + 0.5 KL_2(z_i || mean_(j != i) z_j): arXiv:1805.11761.

    z_i are of the network and the three branches of ``TreeBranches``. Where one map feeds two
    parts, the gradient that comes back is divided by 2 (intermediate-level representation).

    Args:
        *args: Of :class:`SelfDistiller`; the student has ``branches=dict(type='TreeBranches')``.
        kd_loss: Config of KL.
        **kwargs: Of :class:`SelfDistiller`.
    """

    default_weights = dict(loss_cls=0.5, loss_kd=0.5)
    branched = True

    def __init__(self, *args, kd_loss: dict | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.kl = MODELS.build(kd_loss or dict(type='KLDivergence', temperature=2.0))
        if self.trained_networks():  # its own path, as TreeBranches does in those of branches
            for stage in find_stages(self.student.backbone).stages[1:3]:
                stage.register_forward_pre_hook(_divide)

    def compare(self, o: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Both terms of logits [B, K]."""
        z = [o.logits, *o.joint_logits]
        means = [(sum(z) - z_i) / (len(z) - 1) for z_i in z]
        return dict(
            loss_cls=sum(self.cross_entropy(z_i, y) for z_i in z),
            loss_kd=sum(self.kl(z_i, mean) for z_i, mean in zip(z, means, strict=True)),
        )


def _divide(module: object, inputs: tuple[Tensor]) -> Tensor:
    return divide_gradient(inputs[0])

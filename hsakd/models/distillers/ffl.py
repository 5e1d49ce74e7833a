from torch import Tensor

from hsakd.models.adapters import FusionModule
from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS

from .base import SelfDistiller


@MODELS.register_module()
class FFL(SelfDistiller):
    """CE of z_0, z_1 and f + r(e) (KL_3(z_i || f) + KL_3(f || mean z)): arXiv:1904.09058.

    z_0 is of the network, z_1 of its branch, which shares all but its last stage; f of a fusion of
    both last maps. r(e) = exp(-5 (1 - e / 80)^2); 1e-7 is added to probabilities of targets.

    Args:
        *args: Of :class:`SelfDistiller`; the student has one branch, ``stages=[1]`` of three.
        kd_loss: Config of KL.
        **kwargs: Of :class:`SelfDistiller`.
    """

    default_weights = dict(loss_cls=1.0, loss_kd=dict(weight=1.0, ramp_epochs=80))
    taps = ('last_maps',)
    branched = True

    def __init__(self, *args, kd_loss: dict | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        (shapes,) = self.shapes
        self.fusion = FusionModule(shapes.last_maps[0][0], shapes.logits[0])
        self.kl = MODELS.build(kd_loss or dict(type='KLDivergence', temperature=3.0, eps=1e-7))

    def compare(self, o: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Both terms of logits [B, K] and maps [B, C, H, W]."""
        z_0, (z_1,), f = o.logits, o.joint_logits, self.fusion(o.last_maps)
        return dict(
            loss_cls=sum(self.cross_entropy(z, y) for z in (z_0, z_1, f)),
            loss_kd=self.kl(z_0, f) + self.kl(z_1, f) + self.kl(f, (z_0 + z_1) / 2),
        )

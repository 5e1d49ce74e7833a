from torch import Tensor

from hsakd.models.losses.features import attention_transfer
from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS

from .feature_distiller import FeatureDistiller


@MODELS.register_module()
class AT(FeatureDistiller):
    """CE + 1000 sum_l mean (a(F_s) - a(F_t))^2 of stage maps: attention (arXiv:1612.03928).

    The mean of squares, as in the table that others are compared in; the paper has a length.
    """

    default_weights = dict(loss_cls=1.0, loss_kd=0.0, loss_at=1000.0)
    taps = ('maps',)

    def terms(self, s: Outputs, t: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The attention's term; maps [B, C, H, W], of which the shared number are paired."""
        pairs = zip(s.maps[1:], t.maps[1:], strict=False)
        return dict(loss_at=sum(attention_transfer(f_s, f_t) for f_s, f_t in pairs))

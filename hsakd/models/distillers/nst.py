from torch import Tensor

from hsakd.models.losses.features import neuron_selectivity
from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS

from .feature_distiller import FeatureDistiller


@MODELS.register_module()
class NST(FeatureDistiller):
    """CE + 50 sum_l MMD^2 of the channels of stage maps: neuron selectivity (arXiv:1707.01219)."""

    default_weights = dict(loss_cls=1.0, loss_kd=0.0, loss_nst=50.0)
    taps = ('maps',)

    def terms(self, s: Outputs, t: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The discrepancy of channels; maps [B, C, H, W], of which the shared number are paired."""
        pairs = zip(s.maps[1:], t.maps[1:], strict=False)
        return dict(loss_nst=sum(neuron_selectivity(f_s, f_t) for f_s, f_t in pairs))

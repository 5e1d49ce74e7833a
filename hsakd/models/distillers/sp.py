from torch import Tensor

from hsakd.models.losses.features import similarity_preserving
from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS

from .feature_distiller import FeatureDistiller


@MODELS.register_module()
class SP(FeatureDistiller):
    """CE + 3000 mean (G_t - G_s)^2: similarities of images in the last map (arXiv:1907.09682).

    In several processes each compares the images of its own share of a batch.
    """

    default_weights = dict(loss_cls=1.0, loss_kd=0.0, loss_sp=3000.0)
    taps = ('maps',)

    def terms(self, s: Outputs, t: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The term of similarities [B, B]."""
        return dict(loss_sp=similarity_preserving(s.maps[-1], t.maps[-1]))

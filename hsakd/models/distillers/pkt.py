from torch import Tensor

from hsakd.models.losses.features import probabilistic_transfer
from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS

from .feature_distiller import FeatureDistiller


@MODELS.register_module()
class PKT(FeatureDistiller):
    """CE + 30000 mean Q_t ln(Q_t / Q_s): probabilistic knowledge transfer (arXiv:1803.10837).

    Q are the shares of the cosines of embeddings, the diagonal included. In several processes each
    relates the images of its own share of a batch.
    """

    default_weights = dict(loss_cls=1.0, loss_kd=0.0, loss_pkt=30000.0)
    taps = ('embedding',)

    def terms(self, s: Outputs, t: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The term of shares [B, B]."""
        return dict(loss_pkt=probabilistic_transfer(s.embedding, t.embedding))

import torch.nn.functional as F
from torch import Tensor

from hsakd.models.losses.features import angles, distances
from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS

from .feature_distiller import FeatureDistiller


@MODELS.register_module()
class RKD(FeatureDistiller):
    """CE + 25 sl1(D_s, D_t) + 50 sl1(A_s, A_t): relations of embeddings (arXiv:1904.05068).

    D are distances of pairs, A angles of triples, sl1 the mean smooth L1. In several processes each
    relates the images of its own share of a batch.
    """

    default_weights = dict(loss_cls=1.0, loss_kd=0.0, loss_distance=25.0, loss_angle=50.0)
    taps = ('embedding',)

    def terms(self, s: Outputs, t: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The terms of distances [B, B] and angles [B, B, B]."""
        h_s, h_t = s.embedding, t.embedding
        return dict(
            loss_distance=F.smooth_l1_loss(distances(h_s), distances(h_t)),
            loss_angle=F.smooth_l1_loss(angles(h_s), angles(h_t)),
        )

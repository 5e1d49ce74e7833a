from torch import Tensor, nn

from hsakd.models.losses.features import correlation_congruence
from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS
from hsakd.utils.checks import check_counts

from .feature_distiller import FeatureDistiller


@MODELS.register_module()
class CC(FeatureDistiller):
    """CE + 0.02 mean_i d_i . d_(i+1): correlation congruence (arXiv:1904.01802).

    d = |v_s - v_t| of linear projections of the embeddings of both networks, which both learn: what
    the table that others are compared in used, and not the paper's matrix of correlations.

    Args:
        *args: Of :class:`FeatureDistiller`.
        dim: Of the projections.
        **kwargs: Of :class:`FeatureDistiller`.
    """

    default_weights = dict(loss_cls=1.0, loss_kd=0.0, loss_cc=0.02)
    taps = ('embedding',)

    def __init__(self, *args, dim: int = 128, **kwargs) -> None:
        check_counts(dim=dim)
        super().__init__(*args, **kwargs)
        s, t = (shapes.embedding[0] for shapes in self.shapes)
        self.embed_s, self.embed_t = nn.Linear(s, dim), nn.Linear(t, dim)

    def terms(self, s: Outputs, t: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The term of projections [B, dim]."""
        v_s, v_t = self.embed_s(s.embedding), self.embed_t(t.embedding)
        return dict(loss_cc=correlation_congruence(v_s, v_t))

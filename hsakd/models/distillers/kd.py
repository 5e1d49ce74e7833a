from torch import Tensor

from hsakd.models.losses.features import standardized
from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS
from hsakd.utils.checks import check_one_of

from .feature_distiller import FeatureDistiller


@MODELS.register_module()
class KD(FeatureDistiller):
    """0.1 CE(z_s, y) + 0.9 KL_4(z_s || z_t): distilling the knowledge (arXiv:1503.02531).

    Args:
        *args: Of :class:`FeatureDistiller`.
        standardize: Standardize the logits of both networks before KL (LSKD, arXiv:2403.01427):
            published with temperature 2 and weight 9.
        **kwargs: Of :class:`FeatureDistiller`.
    """

    default_weights = dict(loss_cls=0.1, loss_kd=0.9)

    def __init__(self, *args, standardize: bool = False, **kwargs) -> None:
        check_one_of(True, False, standardize=standardize)
        super().__init__(*args, **kwargs)
        self.standardize = standardize

    def terms(self, s: Outputs, t: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """KL of standardized logits, in the place of that of plain ones, where asked for."""
        if not self.standardize:
            return {}
        return dict(loss_kd=self.kl(standardized(s.logits), standardized(t.logits)))

from torch import Tensor

from hsakd.models.losses.features import correlation
from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS
from hsakd.utils.checks import check_numbers

from .feature_distiller import FeatureDistiller


@MODELS.register_module()
class DIST(FeatureDistiller):
    """CE + 2 (inter + intra): correlations of predictions (arXiv:2205.10536).

    Inter: T^2 (1 - mean correlation of an image's probabilities), intra: of a class's over images.
    In several processes each sees its own share of a batch.

    Args:
        *args: Of :class:`FeatureDistiller`.
        temperature: T; 4 on CIFAR-100, 1 on ImageNet.
        **kwargs: Of :class:`FeatureDistiller`.
    """

    default_weights = dict(loss_cls=1.0, loss_kd=0.0, loss_inter=2.0, loss_intra=2.0)

    def __init__(self, *args, temperature: float = 4.0, **kwargs) -> None:
        check_numbers(temperature=temperature)
        super().__init__(*args, **kwargs)
        self.temperature = temperature

    def terms(self, s: Outputs, t: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Both terms of probabilities [B, K]."""
        p_s, p_t = ((z / self.temperature).softmax(1) for z in (s.logits, t.logits))
        square = self.temperature**2
        return dict(
            loss_inter=square * (1 - correlation(p_s, p_t).mean()),
            loss_intra=square * (1 - correlation(p_s.T, p_t.T).mean()),
        )

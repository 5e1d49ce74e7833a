from torch import Tensor

from hsakd.models.losses.features import other_classes, standardized, target_class
from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS
from hsakd.utils.checks import check_numbers, check_one_of

from .feature_distiller import FeatureDistiller


@MODELS.register_module()
class DKD(FeatureDistiller):
    """CE + min(e / 20, 1) (TCKD + b NCKD): decoupled distillation (arXiv:2203.08679).

    TCKD compares the share of the right class, NCKD the others among themselves, at temperature 4.
    b, ``loss_weights.loss_rest``, is the pair's; e counts epochs from 1.

    Args:
        *args: Of :class:`FeatureDistiller`.
        temperature: Of both terms.
        standardize: Standardize the logits of both networks before (LSKD, arXiv:2403.01427).
        **kwargs: Of :class:`FeatureDistiller`.
    """

    default_weights = dict(
        loss_cls=1.0,
        loss_kd=0.0,
        loss_target=dict(weight=1.0, warmup_epochs=20),
        loss_rest=dict(weight=8.0, warmup_epochs=20),
    )

    def __init__(
        self, *args, temperature: float = 4.0, standardize: bool = False, **kwargs
    ) -> None:
        check_numbers(temperature=temperature)
        check_one_of(True, False, standardize=standardize)
        super().__init__(*args, **kwargs)
        self.temperature = temperature
        self.standardize = standardize

    def terms(self, s: Outputs, t: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Both terms of logits [B, K] and labels [B].

        Raises:
            ConfigError: The images are mixed, and have no right class.
        """
        self.check_labels(y)
        z_s, z_t = s.logits, t.logits
        if self.standardize:
            z_s, z_t = standardized(z_s), standardized(z_t)
        return dict(
            loss_target=target_class(z_s, z_t, y, self.temperature),
            loss_rest=other_classes(z_s, z_t, y, self.temperature),
        )

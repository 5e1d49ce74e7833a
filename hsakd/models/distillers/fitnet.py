import torch.nn.functional as F
from torch import Tensor

from hsakd.models.adapters import Regressor
from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS
from hsakd.utils.checks import check_one_of

from .feature_distiller import FeatureDistiller


@MODELS.register_module()
class FitNet(FeatureDistiller):
    """CE + 100 mean (R(f2_s) - f2_t)^2: hints for thin deep nets (arXiv:1412.6550).

    R is convolution, batch norm and ReLU. In one phase with CE, as in the table that others are
    compared in; the paper first trains the lower half on hints alone.

    Args:
        *args: Of :class:`FeatureDistiller`.
        level: Of the map, 0 for the stem's.
        **kwargs: Of :class:`FeatureDistiller`.
    """

    default_weights = dict(loss_cls=1.0, loss_kd=0.0, loss_hint=100.0)
    taps = ('maps',)

    def __init__(self, *args, level: int = 2, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        number = min(len(shapes.maps) for shapes in self.shapes)
        check_one_of(*range(-number, number), level=level)
        self.level = level
        self.reg = Regressor(*(shapes.maps[level] for shapes in self.shapes))

    def terms(self, s: Outputs, t: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The hint's term; maps [B, C, H, W]."""
        return dict(loss_hint=F.mse_loss(self.reg(s.maps[self.level]), t.maps[self.level]))

from mmengine.model import ModuleList
from torch import Tensor

from hsakd.models.adapters import VariationalHead
from hsakd.models.losses.features import gaussian_likelihood, pool_larger
from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS

from .feature_distiller import FeatureDistiller


@MODELS.register_module()
class VID(FeatureDistiller):
    """CE + sum_l mean ((m - F_t)^2 / v + ln v) / 2: variational information (arXiv:1904.05835).

    m is a head of the student's stage map, v a variance of each channel that is learned.
    """

    default_weights = dict(loss_cls=1.0, loss_kd=0.0, loss_vid=1.0)
    taps = ('maps',)

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        s, t = (shapes.maps[1:] for shapes in self.shapes)
        pairs = zip(s, t, strict=False)
        self.vid = ModuleList(VariationalHead(f_s[0], f_t[0]) for f_s, f_t in pairs)

    def terms(self, s: Outputs, t: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The likelihood of the teacher's stage maps [B, C, H, W]."""
        loss = 0
        for head, f_s, f_t in zip(self.vid, s.maps[1:], t.maps[1:], strict=False):
            f_s, f_t = pool_larger(f_s, f_t)
            loss = loss + gaussian_likelihood(head(f_s), f_t, head.log_scale)
        return dict(loss_vid=loss)

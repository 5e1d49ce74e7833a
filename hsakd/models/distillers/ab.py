from mmengine.model import ModuleList
from torch import Tensor, nn

from hsakd.models.adapters import Regressor
from hsakd.models.losses.features import activation_boundary
from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS

from .phases import HintPhase


@MODELS.register_module()
class AB(HintPhase):
    """0.003 sum_k 2^(k - L + 1) AB(C(s_k), t_k): activation boundaries (arXiv:1811.03233).

    The first of two phases, on the L stage maps from before their last ReLU. C, where shapes
    differ, is convolution and batch norm. The second phase trains by CE alone from what this left.
    """

    default_weights = dict(loss_ab=0.003)
    taps = ('maps', 'pre_activations')

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        s, t = (shapes.pre_activations[1:] for shapes in self.shapes)
        self.con = ModuleList(
            nn.Identity() if f_s == f_t else Regressor(f_s, f_t, relu=False)
            for f_s, f_t in zip(s, t, strict=False)
        )

    def terms(self, s: Outputs, t: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The term of maps [B, C, H, W]."""
        levels = zip(self.con, s.pre_activations[1:], t.pre_activations[1:], strict=False)
        loss = 0
        for k, (con, f_s, f_t) in enumerate(levels):
            loss = loss + 2.0 ** (k - len(self.con) + 1) * activation_boundary(con(f_s), f_t)
        return dict(loss_ab=loss)

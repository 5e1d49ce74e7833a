from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor

from hsakd.models.losses.features import flow_matrix
from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS
from hsakd.utils.errors import ConfigError

from .phases import HintPhase


@MODELS.register_module()
class FSP(HintPhase):
    """Sum of mean (G_s - G_t)^2: the flow of solution procedure (CVPR 2017, Yim et al.).

    G is of each map, the stem's too, and the one after it. The first of two phases; the second
    trains by CE alone from what this left.

    Raises:
        ConfigError: Student and teacher have maps of other channels.
    """

    default_weights = dict(loss_fsp=1.0)
    taps = ('maps',)

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        s, t = ([shape[0] for shape in shapes.maps] for shapes in self.shapes)
        same = 'maps of as many channels'
        ConfigError.check(s == t, 'model.student and model.teacher', same, f'{s} and {t}')

    def terms(self, s: Outputs, t: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The term of maps [B, C, H, W]."""
        flows = zip(
            *([flow_matrix(*pair) for pair in pairwise(o.maps)] for o in (s, t)), strict=True
        )
        return dict(loss_fsp=sum(F.mse_loss(g_s, g_t) for g_s, g_t in flows))

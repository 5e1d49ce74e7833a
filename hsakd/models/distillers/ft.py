import torch.nn.functional as F
from torch import Tensor

from hsakd.models.adapters import Paraphraser, Translator
from hsakd.models.losses.features import factor_transfer
from hsakd.models.method import Batch, FrozenHelper
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS

from .feature_distiller import FeatureDistiller
from .phases import HelperPhase


@MODELS.register_module()
class FTParaphraser(HelperPhase):
    """Mean (P(F) - F)^2: the first phase of :class:`FT`, in which the paraphraser P learns.

    It takes the last map of the network that will be the teacher, and gives it back from a factor
    of half the channels.
    """

    default_weights = dict(loss_para=1.0)
    taps = ('maps',)

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.para = Paraphraser(self.shapes[0].maps[-1][0])

    def compare(self, o: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The term of the last map [B, C, H, W]."""
        return dict(loss_para=F.mse_loss(self.para.reconstructed(o.maps[-1]), o.maps[-1]))


@MODELS.register_module()
class FT(FeatureDistiller):
    """CE + 200 mean |a(T(F_s)) - a(P(F_t))|: factor transfer (arXiv:1802.04977).

    P is the encoder of the paraphraser that ``teacher_ckpt``, a checkpoint of
    :class:`FTParaphraser`, holds beside the teacher; T, the translator, learns.
    """

    default_weights = dict(loss_cls=1.0, loss_kd=0.0, loss_ft=200.0)
    taps = ('maps',)

    def __init__(self, *args, teacher_ckpt: str | None = None, **kwargs) -> None:
        super().__init__(*args, teacher_ckpt=teacher_ckpt, **kwargs)
        s, t = (shapes.maps[-1][0] for shapes in self.shapes)
        self.para, self.trans = Paraphraser(t), Translator(s, t // 2)
        self.frozen_parts.append(FrozenHelper(self, ['para'], teacher_ckpt, 'model.teacher_ckpt'))

    def terms(self, s: Outputs, t: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The term of the last maps [B, C, H, W]."""
        return dict(loss_ft=factor_transfer(self.trans(s.maps[-1]), self.para(t.maps[-1])))

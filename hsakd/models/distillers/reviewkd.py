from mmengine.model import ModuleList
from torch import Tensor

from hsakd.models.adapters import AttentionFusion
from hsakd.models.losses.features import hierarchical_context
from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS

from .feature_distiller import FeatureDistiller


@MODELS.register_module()
class ReviewKD(FeatureDistiller):
    """CE + w min(e / 20, 1) sum_l hcl(r_l, F_t): knowledge review (arXiv:2104.09044).

    Levels are the stage maps and, as a map of one pixel, the embedding; those of the teacher are
    from before its last ReLU. r_l joins a student's level with those above it, from the last one
    down. w, ``loss_weights.loss_review``, is the pair's; e counts epochs from 1.
    """

    default_weights = dict(
        loss_cls=1.0, loss_kd=0.0, loss_review=dict(weight=1.0, warmup_epochs=20)
    )
    taps = ('maps', 'embedding')
    teacher_taps = ('maps', 'pre_activations', 'embedding')

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        s, t = ([(*f,)[0] for f in (*o.maps[1:], o.embedding)] for o in self.shapes)
        middle = min(512, s[-1])
        fuse = [True] * (len(s) - 1) + [False]
        pairs = zip(s, t, fuse, strict=True)
        self.abf = ModuleList(AttentionFusion(c_s, middle, c_t, more) for c_s, c_t, more in pairs)

    def terms(self, s: Outputs, t: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The term of maps [B, C, H, W] and embeddings [B, D]."""
        f_s = [*s.maps[1:], s.embedding[:, :, None, None]]
        f_t = [*t.pre_activations[1:], t.embedding[:, :, None, None]]
        loss, above = 0, None
        for fusion, student, teacher in zip(self.abf[::-1], f_s[::-1], f_t[::-1], strict=True):
            r, above = fusion(student, above, teacher.shape[2])
            loss = loss + hierarchical_context(r, teacher)
        return dict(loss_review=loss)

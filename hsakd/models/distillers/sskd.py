from torch import Tensor

from hsakd.models.adapters import MLP
from hsakd.models.losses import KLDivergence
from hsakd.models.losses.features import most_confident, similarity_of_copies
from hsakd.models.method import Batch, FrozenHelper
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS
from hsakd.utils.checks import check_numbers

from .feature_distiller import FeatureDistiller
from .sskd_head import FOUR_TIMES, rotated


@MODELS.register_module()
class SSKD(FeatureDistiller):
    """0.1 CE + 0.9 KL_4 + 2.7 KL_4(rotated) + 10 KL_0.5(s_s || s_t): SSKD (arXiv:2006.07114).

    s as in :class:`SSKDHead`, of whose checkpoints one is the ``teacher_ckpt``. The last two are
    over rotated images that the teacher gets right, and a share of the others, the least wrong
    ones. The similarities are among the images that one process sees.

    Args:
        *args: Of :class:`FeatureDistiller`.
        tf_share: Of rotated images whose class the teacher gets wrong.
        ss_share: Of those whose own image it gets wrong.
        **kwargs: Of :class:`FeatureDistiller`.
    """

    default_weights = dict(loss_cls=0.1, loss_kd=0.9, loss_tf=2.7, loss_ss=10.0)
    taps = ('embedding',)
    batch_sampler = FOUR_TIMES

    def __init__(
        self,
        *args,
        tf_share: float = 1.0,
        ss_share: float = 0.75,
        teacher_ckpt: str | None = None,
        **kwargs,
    ) -> None:
        check_numbers(-1e-9, 1 + 1e-9, tf_share=tf_share, ss_share=ss_share)
        super().__init__(*args, teacher_ckpt=teacher_ckpt, **kwargs)
        s, t = (shapes.embedding[0] for shapes in self.shapes)
        self.head_s, self.head_t = MLP(s, s, s), MLP(t, t, t)
        self.frozen_parts.append(FrozenHelper(self, ['head_t'], teacher_ckpt, 'model.teacher_ckpt'))
        self.kl_ss = KLDivergence(temperature=0.5)
        self.tf_share, self.ss_share = tf_share, ss_share

    def losses(self, x: Tensor, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Of four copies of each image, see :func:`rotated`."""
        return super().losses(rotated(x), y[::4], batch)

    def compare(self, s: Outputs, t: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """All terms of logits [4 * B, K] and embeddings [4 * B, D] of rotations; labels [B]."""
        self.check_labels(y)
        z_s, z_t = (o.logits.unflatten(0, (-1, 4)) for o in (s, t))
        rotated_s, rotated_t = (z[:, 1:].flatten(0, 1) for z in (z_s, z_t))
        s_s, _ = similarity_of_copies(self.head_s(s.embedding))
        s_t, right = similarity_of_copies(self.head_t(t.embedding))
        tf = most_confident(rotated_t, y.repeat_interleave(3), self.tf_share)
        ss = most_confident(s_t, right, self.ss_share)
        return dict(
            loss_cls=self.cross_entropy(z_s[:, 0], y),
            loss_kd=self.kl(z_s[:, 0], z_t[:, 0]),
            loss_tf=self.kl(rotated_s[tf], rotated_t[tf]),
            loss_ss=self.kl_ss(s_s[ss], s_t[ss]),
        )

from torch import Tensor

from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS

from .base import Distiller, OfflineDistiller


class FeatureDistiller(OfflineDistiller):
    """CE(z_s, y) + KL_4(z_s || z_t) + a method's terms of what both networks give.

    A subclass writes ``terms``, ``default_weights``, and the helper layers that it needs for
    ``shapes``. KL has weight 0 in methods that were published without it:
    ``loss_weights.loss_kd=1`` is "method + KD".

    Args:
        student: As of :class:`OfflineDistiller`; or the shapes of a network's outputs, to call
            :meth:`compare` on tensors without networks.
        teacher: The same.
        kd_loss: Config of the KL divergence of logits.
        **kwargs: Of :class:`OfflineDistiller`.
    """

    def __init__(
        self,
        student: dict | Outputs,
        teacher: dict | Outputs,
        kd_loss: dict | None = None,
        **kwargs,
    ) -> None:
        if isinstance(student, Outputs):
            Distiller.__init__(self)
            self.shapes, self.frozen_parts = (student, teacher), []
        else:
            super().__init__(student=student, teacher=teacher, **kwargs)
        self.kl = MODELS.build(kd_loss or dict(type='KLDivergence', temperature=4.0))

    def losses(self, x: Tensor, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """See :meth:`compare`."""
        return self.compare(self.student.outputs(x), self.teacher_outputs(x), y, batch)

    def compare(
        self, s: Outputs, t: Outputs, y: Tensor, batch: Batch, **drawn
    ) -> dict[str, Tensor]:
        """All terms, unweighted, of the outputs of student and teacher for the same images.

        What a method draws at random is an argument of its ``terms``, and drawn if not ``drawn``.
        """
        loss_cls, loss_kd = self.cross_entropy(s.logits, y), self.kl(s.logits, t.logits)
        return dict(loss_cls=loss_cls, loss_kd=loss_kd) | self.terms(s, t, y, batch, **drawn)

    def terms(self, s: Outputs, t: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The method's own terms, unweighted."""
        return {}

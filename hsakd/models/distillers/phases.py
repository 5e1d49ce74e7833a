"""What the first phases of methods in two phases have in common."""

import torch
from torch import Tensor

from hsakd.models.backbones.stages import find_stages
from hsakd.models.method import Batch, FrozenPart
from hsakd.models.networks.branched_classifier import Outputs

from .base import SelfDistiller
from .feature_distiller import FeatureDistiller


class HelperPhase(SelfDistiller):
    """Helper layers learn on a trained network, here the student, which is frozen.

    The checkpoint holds both. It is the ``teacher_ckpt`` of the second phase.

    Args:
        student: Config of the trained network.
        student_ckpt: Its checkpoint. None builds, for callers that load weights themselves;
            training with it is an error.
        **kwargs: Of :class:`SelfDistiller`.
    """

    def __init__(self, student: dict | Outputs, student_ckpt: str | None = None, **kwargs) -> None:
        super().__init__(student, **kwargs)
        if self.trained_networks():
            part = FrozenPart(self.student, [], student_ckpt, 'model.student_ckpt')
            self.frozen_parts = [part]

    def losses(self, x: Tensor, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """See ``compare``."""
        with torch.no_grad():
            outputs = self.student.outputs(x)
        return self.compare(outputs, y, batch)


class HintPhase(FeatureDistiller):
    """The student's layers up to the last map learn from hints alone, without labels.

    Its checkpoint is what the second phase starts from (``load_from``). What comes after the last
    map stays as it is.

    Args:
        *args: Of :class:`FeatureDistiller`.
        **kwargs: Of :class:`FeatureDistiller`.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.trained_networks():
            self.student.head.requires_grad_(False)
            stages = find_stages(self.student.backbone)
            tapped = 'pre_activations' in self.taps and stages and stages.following_norms
            if stages and not tapped:
                stages.tail.requires_grad_(False)

    def compare(
        self, s: Outputs, t: Outputs, y: Tensor, batch: Batch, **drawn
    ) -> dict[str, Tensor]:
        """The method's own terms."""
        return self.terms(s, t, y, batch, **drawn)

from hsakd.models.method import FrozenPart
from hsakd.registry import MODELS

from .branched_classifier import BranchedClassifier


@MODELS.register_module()
class LinearEvaluation(BranchedClassifier):
    """How good the features of a trained network are: a new linear head on its frozen backbone.

    The head alone learns. The checkpoints of this model hold both, and load as those of any plain
    classifier.

    Args:
        backbone_ckpt: Checkpoint of the trained network, whose backbone is taken: a student
            published by tools/model_converters/publish_student.py, or any checkpoint of
            tools/train.py. None builds, for callers that load weights themselves; training with it
            is an error.
        **kwargs: Of :class:`BranchedClassifier`, without branches and transforms.
    """

    def __init__(self, *args, backbone_ckpt: str | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        # Without a parameter that learns, no graph is kept of what the backbone computes.
        self.frozen_parts = [FrozenPart(self, ['backbone'], backbone_ckpt, 'model.backbone_ckpt')]

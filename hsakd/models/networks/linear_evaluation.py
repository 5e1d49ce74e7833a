from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from hsakd.registry import MODELS
from hsakd.utils.checkpoint import load_network
from hsakd.utils.errors import ConfigError

from .branched_classifier import BranchedClassifier


@MODELS.register_module()
class LinearEvaluation(BranchedClassifier):
    """How good the features of a trained network are: a new linear head on its fixed backbone.

    The backbone stays in eval mode and gets no gradients; the head alone learns. The checkpoints
    of this model hold both, and load as those of any plain classifier.

    Args:
        backbone_ckpt: Checkpoint of the trained network, whose backbone is taken: a student
            published by tools/model_converters/publish_student.py, or any checkpoint of
            tools/train.py. None builds, for callers that load weights themselves; training with it
            is an error.
        **kwargs: Of :class:`BranchedClassifier`, without branches and transforms.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        backbone_ckpt: str | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(
            backbone, neck, head, data_preprocessor=data_preprocessor, init_cfg=init_cfg
        )
        self.backbone_ckpt = backbone_ckpt
        # Without a parameter that learns, no graph is kept of what the backbone computes.
        self.backbone.requires_grad_(False).eval()
        self._backbone_loaded = False
        self.register_load_state_dict_post_hook(_note_loaded)

    def check_weights(self) -> None:
        """See that there is something to evaluate.

        Raises:
            ConfigError: The backbone never got its weights.
        """
        if not self._backbone_loaded:
            raise ConfigError(
                'model.backbone_ckpt is None, so the backbone has random weights; accepted is the '
                'path of a trained network, e.g. --cfg-options '
                'model.backbone_ckpt=work_dirs/STUDENT/epoch_240.pth'
            )

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One step of training, after :meth:`check_weights`."""
        self.check_weights()
        return super().train_step(data, optim_wrapper)

    def init_weights(self) -> None:
        """Initialise the head and load the backbone."""
        super().init_weights()
        if self.backbone_ckpt is not None:
            load_network(self, self.backbone_ckpt, 'model.backbone_ckpt', parts=('backbone',))

    def train(self, mode: bool = True) -> 'LinearEvaluation':
        """Set the mode of the head; the backbone stays in eval mode."""
        super().train(mode)
        self.backbone.eval()
        return self


def _note_loaded(model: nn.Module, incompatible_keys) -> None:
    if not any(key.startswith('backbone.') for key in incompatible_keys.missing_keys):
        model._backbone_loaded = True

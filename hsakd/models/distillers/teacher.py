import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from mmpretrain.structures import DataSample
from torch import Tensor

from hsakd.models.losses import LossWeights
from hsakd.models.networks.branched_classifier import BranchedClassifier, class_labels
from hsakd.registry import MODELS
from hsakd.utils.checkpoint import load_network
from hsakd.utils.errors import ConfigError


@MODELS.register_module()
class HSAKDTeacher(BranchedClassifier):
    """The teacher: a network with branches that learns the joint task (section 3.2).

    Args:
        frozen: Train the branches only, on the features of a plain network that is already
            trained: backbone and head stay fixed, in eval mode.
        backbone_ckpt: The trained plain network for ``frozen``: a checkpoint of ours, a converted
            one, or a ResNet of torchvision's. None builds, for callers that load weights
            themselves; training with it is an error.
        loss_weights: Factors of the terms, see :class:`LossWeights`.
        **kwargs: Of :class:`BranchedClassifier`.
    """

    def __init__(
        self,
        *args,
        branches: dict,
        frozen: bool = False,
        backbone_ckpt: str | None = None,
        loss_weights: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(*args, branches=branches, **kwargs)
        if backbone_ckpt is not None and not frozen:
            raise ConfigError(
                f'model.backbone_ckpt={backbone_ckpt!r} is for model.frozen=True; to start joint '
                'training from weights set load_from instead'
            )
        self.frozen = frozen
        self.backbone_ckpt = backbone_ckpt
        terms = ['loss_cls', *(f'loss_aux_{index}' for index in range(self.num_branches))]
        self.loss_weights = LossWeights(loss_weights, terms, idle=['loss_cls'] if frozen else [])
        self._backbone_loaded = False
        self.register_load_state_dict_post_hook(_note_loaded)
        if frozen:
            self.backbone.requires_grad_(False)
            self.head.requires_grad_(False)

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """CE(f(x_0), y) + sum_l CE(c_l(x_rot), k).

        Args:
            inputs: [N, C, H, W], not rotated.
            data_samples: With ``gt_label`` y.
        """
        y = class_labels(data_samples)
        k = self.transforms.joint_labels(y)
        logits, joint_logits = self.logits(self.transforms(inputs))
        f_upright = logits[:: self.transforms.num_transforms]
        losses = dict(loss_cls=self.head.loss_module(f_upright, y))
        for index, c in enumerate(joint_logits):
            losses[f'loss_aux_{index}'] = F.cross_entropy(c, k)
        return self.loss_weights(losses)

    def check_weights(self) -> None:
        """See that what is fixed was trained.

        Raises:
            ConfigError: The backbone is frozen, and never got its weights.
        """
        if self.frozen and not self._backbone_loaded:
            raise ConfigError(
                'model.backbone_ckpt is None, so the frozen backbone has random weights; accepted '
                'is the path of a trained plain network, e.g. --cfg-options '
                'model.backbone_ckpt=work_dirs/BASELINE/epoch_240.pth'
            )

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One step of training, after :meth:`check_weights`."""
        self.check_weights()
        return super().train_step(data, optim_wrapper)

    def init_weights(self) -> None:
        """Initialise, then load the plain network where the backbone is frozen."""
        super().init_weights()
        if self.backbone_ckpt is not None:
            parts = ('backbone', 'head')
            load_network(self, self.backbone_ckpt, 'model.backbone_ckpt', parts)

    def train(self, mode: bool = True) -> 'HSAKDTeacher':
        """Set the mode; a frozen backbone and head stay in eval mode."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
            self.head.eval()
        return self


def _note_loaded(teacher: HSAKDTeacher, incompatible_keys) -> None:
    fixed = ('backbone.', 'head.')
    if not any(key.startswith(fixed) for key in incompatible_keys.missing_keys):
        teacher._backbone_loaded = True

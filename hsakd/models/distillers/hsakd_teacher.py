from torch import Tensor

from hsakd.models.method import Batch, FrozenPart
from hsakd.models.networks.branched_classifier import BranchedClassifier
from hsakd.registry import MODELS
from hsakd.utils.errors import ConfigError

from .base import check_joint_losses


@MODELS.register_module()
class HSAKDTeacher(BranchedClassifier):
    """The teacher: a network with branches that learns the joint task (section 3.2).

    Args:
        branches: Config of the auxiliary branches.
        frozen: Train the branches only, on the features of a plain network that is already
            trained: backbone and head are frozen.
        backbone_ckpt: The trained plain network for ``frozen``: a checkpoint of ours, a converted
            one, or a ResNet of torchvision's. None builds, for callers that load weights
            themselves; training with it is an error.
        loss_weights: Factors of the terms, see :class:`~hsakd.models.losses.LossWeights`.
        **kwargs: Of :class:`BranchedClassifier`.
    """

    default_weights = {'loss_cls': 1.0, 'loss_aux_*': 1.0}

    def __init__(
        self,
        *args,
        branches: dict,
        frozen: bool = False,
        backbone_ckpt: str | None = None,
        loss_weights: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(*args, branches=branches, loss_weights=loss_weights, **kwargs)
        ConfigError.check(
            frozen or backbone_ckpt is None,
            'model.backbone_ckpt',
            'None without model.frozen=True (load_from starts joint training from weights)',
            repr(backbone_ckpt),
        )
        check_joint_losses(self.trained_networks())
        if frozen:
            part = FrozenPart(self, ['backbone', 'head'], backbone_ckpt, 'model.backbone_ckpt')
            self.frozen_parts = [part]
            self.set_loss_weights(loss_weights, without_gradient=['loss_cls'])

    def losses(self, x: Tensor, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """CE(f(x_0), y) + sum_l CE(c_l(x_rot), k)."""
        k = self.joint_labels(y)
        f, c = self.logits(self.transforms(x))

        losses = dict(loss_cls=self.cross_entropy(f[:: self.transforms.num_transforms], y))
        for l, c_l in enumerate(c):
            losses[f'loss_aux_{l}'] = self.joint_cross_entropy(c_l, k)
        return losses

from mmengine.model import BaseModule
from torch import Tensor, nn

from hsakd.registry import MODELS


@MODELS.register_module()
class JointHead(BaseModule):
    """Linear classifier over the joint labels (class x transform) of one branch.

    Column ``M * y + j`` stands for class y under transform j.

    Args:
        num_classes: N, the classes.
        num_transforms: M, the self-supervision transforms.
        in_channels: Size of the branch's embedding.
        init_cfg: Initial weights; by default those that torch draws.
    """

    def __init__(
        self,
        num_classes: int,
        num_transforms: int,
        in_channels: int,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.num_transforms = num_transforms
        self.fc = nn.Linear(in_channels, num_classes * num_transforms)

    def forward(self, embedding: Tensor) -> Tensor:
        """Joint logits [B, M * N] of embeddings [B, C]."""
        return self.fc(embedding)

    def class_scores(self, joint_logits: Tensor) -> Tensor:
        """Class distribution [B, N] that joint logits [B, M * N] imply: the sum over transforms."""
        return joint_logits.softmax(1).unflatten(1, (-1, self.num_transforms)).sum(2)

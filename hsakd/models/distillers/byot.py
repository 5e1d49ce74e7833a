import torch
import torch.nn.functional as F
from mmengine.model import ModuleList
from torch import Tensor, nn

from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS
from hsakd.utils.checks import check_numbers

from .base import SelfDistiller


@MODELS.register_module()
class BYOT(SelfDistiller):
    """Sum CE + sum_i KL_4(z_i || z_0) + 0.05 sum_i mean (F_i - F_0)^2: be your own teacher.

    arXiv:1905.08094. z_0 and F_0 are the network's own logits and last map, of which branches i
    learn, here copies of its stages; the published ones have one block a stage.

    Args:
        *args: Of :class:`SelfDistiller`; the student has branches.
        kd_loss: Config of KL.
        **kwargs: Of :class:`SelfDistiller`.
    """

    default_weights = dict(loss_cls=1.0, loss_branch_cls=1.0, loss_kd=1.0, loss_hint=0.05)
    taps = ('last_maps',)
    branched = True

    def __init__(self, *args, kd_loss: dict | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.kl = MODELS.build(kd_loss or dict(type='KLDivergence', temperature=4.0))

    def compare(self, o: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """All terms of logits [B, K] and maps [B, C, H, W]."""
        own, *maps = o.last_maps
        return dict(
            loss_cls=self.cross_entropy(o.logits, y),
            loss_branch_cls=sum(self.cross_entropy(z_i, y) for z_i in o.joint_logits),
            loss_kd=sum(self.kl(z_i, o.logits) for z_i in o.joint_logits),
            loss_hint=sum(F.mse_loss(f_i, own.detach()) for f_i in maps),
        )


@MODELS.register_module()
class BYOTJournal(SelfDistiller):
    """CE + sum_i [0.7 CE(z_i, y) + 0.3 S(z_i, z_0)] + 0.03 sum_(i > 1) |A_i(h_i) - h_0|.

    The journal's form (T-PAMI 2021, Zhang et al.): S is the cross entropy at temperature 3, without
    its square as a factor; the length is that of all embeddings of a batch, and A_i are linear.
    Branches count from the deepest, which gets no such term.

    Args:
        *args: Of :class:`SelfDistiller`; the student has branches, the deepest first
            (``stages=[1, 0]`` of three).
        temperature: Of S.
        **kwargs: Of :class:`SelfDistiller`.
    """

    default_weights = dict(loss_cls=1.0, loss_branch_cls=0.7, loss_kd=0.3, loss_hint=0.03)
    taps = ('embedding', 'branch_embeddings')
    branched = True

    def __init__(self, *args, temperature: float = 3.0, **kwargs) -> None:
        check_numbers(temperature=temperature)
        super().__init__(*args, **kwargs)
        (shapes,) = self.shapes
        d = shapes.embedding[0]
        self.temperature = temperature
        self.adapt = ModuleList(nn.Linear(h[0], d) for h in shapes.branch_embeddings[1:])

    def compare(self, o: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """All terms of logits [B, K] and embeddings [B, D]."""
        t = self.temperature
        own, target = o.embedding.detach(), (o.logits.detach() / t).softmax(1)
        adapted = [a(h) for a, h in zip(self.adapt, o.branch_embeddings[1:], strict=True)]
        return dict(
            loss_cls=self.cross_entropy(o.logits, y),
            loss_branch_cls=sum(self.cross_entropy(z_i, y) for z_i in o.joint_logits),
            loss_kd=sum(F.cross_entropy(z_i / t, target) for z_i in o.joint_logits),
            loss_hint=sum((torch.linalg.vector_norm(h - own) for h in adapted), own.new_zeros(())),
        )

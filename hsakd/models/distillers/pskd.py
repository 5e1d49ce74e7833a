import torch.nn.functional as F
from torch import Tensor

from hsakd.models.adapters.memory import gathered
from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS
from hsakd.utils.checks import check_numbers

from .base import SelfDistiller


@MODELS.register_module()
class PSKD(SelfDistiller):
    """-mean sum_c q_c ln p_c, q = (1 - a) onehot(y) + a p': progressive refinement.

    p' is what the network gave for the image an epoch before, and a = 0.8 e / E in the e-th of E
    epochs (arXiv:2006.12000). The memory holds the images of all processes.

    Args:
        *args: Of :class:`SelfDistiller`.
        alpha: a of the last epoch.
        **kwargs: Of :class:`SelfDistiller`.
    """

    default_weights = dict(loss_cls=1.0)

    def __init__(self, *args, alpha: float = 0.8, **kwargs) -> None:
        check_numbers(0, 1, alpha=alpha)
        super().__init__(*args, **kwargs)
        self.alpha = alpha

    def remember(self, labels: Tensor) -> None:
        """The last prediction of every image; at first its label."""
        classes = self.shapes[0].logits[0]
        self.register_buffer('memory', F.one_hot(labels, classes).float())

    def compare(self, o: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The term of logits [B, K] and labels [B]."""
        self.check_labels(y)
        log_p = o.logits.log_softmax(1)
        a, rows = self.alpha * (batch.epoch + 1) / batch.epochs, batch.indices
        right = F.one_hot(y, log_p.shape[1]).to(self.memory.dtype)
        last = self.memory[rows] if batch.epoch else right
        q = (1 - a) * right + a * last
        self.memory[gathered(rows)] = gathered(log_p.exp()).to(self.memory.dtype)
        return dict(loss_cls=-(q * log_p).sum(1).mean())

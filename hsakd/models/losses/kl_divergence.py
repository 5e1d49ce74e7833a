import math

import torch.nn.functional as F
from torch import Tensor, nn

from hsakd.registry import MODELS
from hsakd.utils.checks import is_number
from hsakd.utils.errors import ConfigError


@MODELS.register_module()
class KLDivergence(nn.Module):
    r"""Distillation loss of softened distributions, KL_t in the paper.

    .. math:: t^2 \cdot \mathrm{mean}_{rows}\, KL(softmax(T / t) \,\|\, softmax(S / t))

    Args:
        temperature: t, by which the logits are divided. The factor t^2 keeps the size of the
            gradient independent of it.
        eps: Added to the target's probabilities, in both places, as some published code does.
        detach: Whether no gradient flows into the target.
    """

    def __init__(self, temperature: float = 3.0, eps: float = 0.0, detach: bool = True) -> None:
        super().__init__()
        ConfigError.check(
            is_number(temperature) and 0 < temperature < math.inf,
            'model.kd_loss.temperature',
            'a number above 0',
            repr(temperature),
        )
        self.temperature = temperature
        self.eps = eps
        self.detach = detach

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Divergence of the student from the teacher, a scalar.

        Args:
            student: Logits [B, K].
            teacher: Logits [B, K].
        """
        t = self.temperature
        teacher = teacher.detach() if self.detach else teacher
        if self.eps:
            q = F.softmax(teacher / t, dim=1) + self.eps
            return t**2 * (q * (q.log() - F.log_softmax(student / t, dim=1))).sum(1).mean()
        loss = F.kl_div(
            F.log_softmax(student / t, dim=1),
            F.log_softmax(teacher / t, dim=1),
            reduction='batchmean',
            log_target=True,
        )
        return loss * t**2

    def extra_repr(self) -> str:
        """Show the temperature."""
        return f'temperature={self.temperature}'

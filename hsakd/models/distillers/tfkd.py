from typing import Literal

import torch
from torch import Tensor

from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS
from hsakd.utils.checks import check_numbers, check_one_of

from .base import SelfDistiller


@MODELS.register_module()
class TfKD(SelfDistiller):
    """0.9 CE + 10 mean q (ln q - ln p): a virtual teacher (arXiv:1909.11723, equation 9).

    q = softmax(d / T), d = 0.99 for the right class and the rest shared by the others; the mean is
    over images and classes. Its other form, in which the same network trained before is the
    teacher, is :class:`~hsakd.models.distillers.KD` with the weights of docs/methods.md.

    Args:
        *args: Of :class:`SelfDistiller`.
        correct: d of the right class.
        temperature: T.
        form: 'library' for that of a library for self-distillation: -mean_x sum_c d / T ln p_T(z).
        **kwargs: Of :class:`SelfDistiller`.
    """

    default_weights = dict(loss_cls=0.9, loss_kd=10.0)

    def __init__(
        self,
        *args,
        correct: float = 0.99,
        temperature: float = 20.0,
        form: Literal['paper', 'library'] = 'paper',
        **kwargs,
    ) -> None:
        check_numbers(0, 1, correct=correct)
        check_numbers(temperature=temperature)
        check_one_of('paper', 'library', form=form)
        super().__init__(*args, **kwargs)
        self.correct, self.temperature, self.form = correct, temperature, form

    def compare(self, o: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Both terms of logits [B, K] and labels [B]."""
        self.check_labels(y)
        z, t = o.logits, self.temperature
        others = (1 - self.correct) / (z.shape[1] - 1)
        d = torch.full_like(z, others).scatter(1, y[:, None], self.correct)
        if self.form == 'library':
            loss = -(d / t * (z / t).log_softmax(1)).sum(1).mean()
        else:
            q = (d / t).softmax(1)
            loss = (q * (q.log() - z.log_softmax(1))).mean()
        return dict(loss_cls=self.cross_entropy(z, y), loss_kd=loss)

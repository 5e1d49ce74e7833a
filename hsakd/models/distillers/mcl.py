from collections.abc import Sequence

import torch
from mmengine.model import ModuleList
from torch import Tensor

from hsakd.models.adapters import MLP
from hsakd.models.losses import KLDivergence
from hsakd.models.losses.contrast import contrast, unit
from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS
from hsakd.utils.checks import check_counts, check_numbers

from .base import OnlineDistiller


@MODELS.register_module()
class MCL(OnlineDistiller):
    """Sum_i CE + 0.1 VCL + soft VCL + 0.1 ICL + soft ICL: contrastive learning (arXiv:2104.12565).

    Networks contrast images of a class with others, by their own embeddings (vanilla) and by each
    other's (interactive), and learn each other's similarities S_ij = v_i v_j^T / T: soft VCL is the
    sum of KL_3(S_ii || S_jj), soft ICL that of KL_3(S_ij || S_ji). Images are those of the batch
    that one process sees. ``loss_weights.loss_kd=1`` adds KL_3 to the mean of logits: of both
    networks, or of the last one of more.

    Args:
        *args: Of :class:`OnlineDistiller`.
        dim: Of the embeddings v.
        temperature: T.
        **kwargs: Of :class:`OnlineDistiller`.
    """

    default_weights = dict(
        loss_cls=1.0, loss_kd=0.0, loss_vcl=0.1, loss_soft_vcl=1.0, loss_icl=0.1, loss_soft_icl=1.0
    )
    taps = ('embedding',)
    batch_sampler = dict(type='ClassBatchSampler')

    def __init__(self, *args, dim: int = 128, temperature: float = 0.1, **kwargs) -> None:
        check_counts(dim=dim)
        check_numbers(temperature=temperature)
        super().__init__(*args, **kwargs)
        self.head = ModuleList(MLP(shapes.embedding[0], dim, dim) for shapes in self.shapes)
        self.dim, self.temperature, self.kl = dim, temperature, KLDivergence(temperature=3.0)

    def compare(
        self, outputs: Sequence[Outputs], y: Tensor, batch: Batch, **drawn
    ) -> dict[str, Tensor]:
        """All terms of logits [B, K] and embeddings [B, D]."""
        z = [o.logits for o in outputs]
        mean = sum(z) / len(z)
        losses = {f'net{i}_loss_cls': self.cross_entropy(z_i, y, i) for i, z_i in enumerate(z)}
        losses['loss_kd'] = sum(self.kl(z_i, mean) for z_i in (z if len(z) == 2 else z[-1:]))
        return losses | self.terms(outputs, y, batch, **drawn)

    def terms(
        self, outputs: Sequence[Outputs], y: Tensor, batch: Batch, **drawn
    ) -> dict[str, Tensor]:
        """The four terms of embeddings [B, D]."""
        v = [unit(head(o.embedding)) for head, o in zip(self.head, outputs, strict=True)]
        s, positive, counted = self.similarities(v, y, batch, **drawn)
        networks = range(len(v))
        pairs = [(i, j) for i in networks for j in networks if i != j]

        def c(i: int, j: int) -> Tensor:
            return contrast(s[i, j], positive[i == j], counted)

        return dict(
            loss_vcl=sum(c(i, i) for i in networks),
            loss_soft_vcl=sum(self.kl(s[i, i], s[j, j]) for i, j in pairs),
            loss_icl=sum(c(i, j) for i, j in pairs),
            loss_soft_icl=sum(self.kl(s[i, j], s[j, i]) for i, j in pairs),
        )

    def similarities(
        self, v: Sequence[Tensor], y: Tensor, batch: Batch
    ) -> tuple[dict[tuple[int, int], Tensor], dict[bool, Tensor], Tensor | None]:
        """S_ij [B, K] by networks, which of its columns are positive, and which are counted.

        Positive ones are by whether i is j.
        """
        self.check_labels(y)
        other = ~torch.eye(len(y), dtype=torch.bool, device=y.device)
        positive = (y[:, None] == y) & other
        s = {
            (i, j): v_i @ v_j.T / self.temperature
            for i, v_i in enumerate(v)
            for j, v_j in enumerate(v)
        }
        return s, {True: positive, False: positive}, other

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from hsakd.models.adapters import Memory, seeded
from hsakd.models.losses.contrast import noise_contrastive, unit
from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS
from hsakd.utils.checks import check_counts, check_numbers
from hsakd.utils.class_index import ClassIndex

from .feature_distiller import FeatureDistiller


@MODELS.register_module()
class CRD(FeatureDistiller):
    """CE + 0.8 (N(P_s) + N(P_t)): contrastive representation distillation (arXiv:1910.10699).

    v is a linear projection of the embedding, of length 1; both learn. P tells the image itself
    among others of other classes, by rows of the other network's memory: exp(v_s . M_t / T) / Z,
    with Z from the first batch. Memories hold the images of all processes.

    Args:
        *args: Of :class:`FeatureDistiller`.
        dim: Of the projections.
        negatives: Images of other classes, drawn anew for each image.
        temperature: T.
        momentum: Of the memories.
        **kwargs: Of :class:`FeatureDistiller`.
    """

    default_weights = dict(loss_cls=1.0, loss_kd=0.0, loss_crd=0.8)
    taps = ('embedding',)

    def __init__(
        self,
        *args,
        dim: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        **kwargs,
    ) -> None:
        check_counts(dim=dim, negatives=negatives)
        check_numbers(temperature=temperature)
        check_numbers(0, 1, momentum=momentum)
        super().__init__(*args, **kwargs)
        s, t = (shapes.embedding[0] for shapes in self.shapes)
        self.embed_s, self.embed_t = nn.Linear(s, dim), nn.Linear(t, dim)
        self.dim, self.negatives = dim, negatives
        self.temperature, self.momentum = temperature, momentum

    def remember(self, labels: Tensor) -> None:
        """A memory of each network, and room for Z."""
        self.index = ClassIndex(labels)
        self.memory_s = Memory(len(labels), self.dim, self.momentum)
        self.memory_t = Memory(len(labels), self.dim, self.momentum)
        self.register_buffer('z_s', torch.zeros(()))
        self.register_buffer('z_t', torch.zeros(()))

    def terms(
        self, s: Outputs, t: Outputs, y: Tensor, batch: Batch, negatives: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The term of embeddings [B, D], with ``negatives`` [B, K] by their numbers."""
        own = batch.indices
        if negatives is None:
            found = self.index.others(own.cpu().numpy(), self.negatives, seeded())
            negatives = torch.from_numpy(found).to(own.device)
        rows = torch.cat([own[:, None], negatives], dim=1)
        v_s, v_t = unit(self.embed_s(s.embedding)), unit(self.embed_t(t.embedding))
        loss = self.contrast(v_s, self.memory_t, rows, 'z_s')
        loss = loss + self.contrast(v_t, self.memory_s, rows, 'z_t')
        self.memory_s.update(own, v_s)
        self.memory_t.update(own, v_t)
        return dict(loss_crd=loss)

    def contrast(self, v: Tensor, memory: Memory, rows: Tensor, z: str) -> Tensor:
        """N(P) of embeddings [B, dim] and rows [B, 1 + K] of a memory; ``z`` is the name of Z."""
        num_data = len(memory.rows)
        a = (memory.similarity(v, rows) / self.temperature).exp()
        if not getattr(self, z):
            mean = a.detach().mean()
            all_reduce(mean, 'mean')
            setattr(self, z, mean * num_data)
        return noise_contrastive(a / getattr(self, z), num_data)

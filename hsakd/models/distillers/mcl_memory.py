from collections.abc import Sequence

import torch
from mmengine.model import ModuleList
from torch import Tensor

from hsakd.models.adapters import Memory, seeded
from hsakd.models.method import Batch
from hsakd.registry import MODELS
from hsakd.utils.checks import check_counts
from hsakd.utils.class_index import ClassIndex

from .mcl import MCL


@MODELS.register_module()
class MCLMemory(MCL):
    """:class:`MCL` with memories of all training images, instead of the images of a batch.

    Columns of S_ij are rows of the memory of network i: that of the image itself (but for i = j),
    one of its class, and others. Memories hold the images of all processes.

    Args:
        *args: Of :class:`MCL`.
        negatives: Images of other classes, which may come twice.
        temperature: T.
        **kwargs: Of :class:`MCL`.
    """

    batch_sampler = None

    def __init__(self, *args, negatives: int = 8192, temperature: float = 0.07, **kwargs) -> None:
        check_counts(negatives=negatives)
        super().__init__(*args, temperature=temperature, **kwargs)
        self.negatives = negatives

    def remember(self, labels: Tensor) -> None:
        """A memory of each network."""
        self.index = ClassIndex(labels)
        self.memory = ModuleList(Memory(len(labels), self.dim) for _ in self.head)

    def similarities(
        self,
        v: Sequence[Tensor],
        y: Tensor,
        batch: Batch,
        positives: Tensor | None = None,
        negatives: Tensor | None = None,
    ) -> tuple[dict[tuple[int, int], Tensor], dict[bool, Tensor], Tensor | None]:
        """As of :class:`MCL`, with rows [B, P] and [B, N] by the numbers of images."""
        own = batch.indices
        if positives is None:
            numbers, random = own.cpu().numpy(), seeded()
            positives = torch.from_numpy(self.index.same(numbers, random)).to(own.device)
            negatives = self.index.others(numbers, self.negatives, random, replace=True)
            negatives = torch.from_numpy(negatives).to(own.device)
        rows = torch.cat([own[:, None], positives, negatives], dim=1)
        s = {
            (i, j): memory.similarity(v_j, rows)[:, int(i == j) :] / self.temperature
            for i, memory in enumerate(self.memory)
            for j, v_j in enumerate(v)
        }
        for memory, v_i in zip(self.memory, v, strict=True):
            memory.update(own, v_i)
        place = torch.arange(rows.shape[1], device=own.device).expand(rows.shape)
        positive = place <= positives.shape[1]
        return s, {True: positive[:, 1:], False: positive}, None

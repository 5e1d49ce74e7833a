import math

import numpy as np
import torch
from mmengine.dist import all_gather, broadcast
from torch import Tensor, nn

from hsakd.models.losses.contrast import unit


class Memory(nn.Module):
    """A row for every training image, which follows that image's embedding.

    It is in checkpoints. In several processes all hold the same: each writes the rows of all.

    Args:
        images: n.
        dim: Of a row; rows start from U(-c, c), c = sqrt(3 / dim).
        momentum: Share of the old row in a new one.
    """

    def __init__(self, images: int, dim: int, momentum: float = 0.5) -> None:
        super().__init__()
        rows = (2 * torch.rand(images, dim) - 1) * math.sqrt(3 / dim)
        broadcast(rows)
        self.register_buffer('rows', rows)
        self.momentum = momentum

    def similarity(self, v: Tensor, rows: Tensor) -> Tensor:
        """Dot products [B, K] of embeddings [B, dim] with rows, by their numbers [B, K]."""
        # With all rows, since to copy K of them for each image takes longer and far more memory.
        with torch.autocast(v.device.type, enabled=False):
            return (v.to(self.rows.dtype) @ self.rows.T).gather(1, rows)

    @torch.no_grad()
    def update(self, own: Tensor, v: Tensor) -> None:
        """Move the rows [B] of images towards their embeddings [B, dim]."""
        own, v = gathered(own), gathered(v).to(self.rows.dtype)
        rows = self.rows.clone()  # the backward pass needs the ones before
        rows[own] = unit(self.momentum * rows[own] + (1 - self.momentum) * v)
        self.rows = rows


def gathered(tensor: Tensor) -> Tensor:
    """Rows [B, ...] of all processes, without a gradient."""
    return torch.cat(all_gather(tensor.detach().contiguous()))


def seeded() -> np.random.Generator:
    """NumPy's random numbers by torch's state, which every step of a training sets."""
    return np.random.default_rng(int(torch.randint(2**62, ())))

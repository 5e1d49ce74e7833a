"""Losses of embeddings against others, in the batch or in a memory."""

import torch
import torch.nn.functional as F
from torch import Tensor


def noise_contrastive(p: Tensor, num_data: int, eps: float = 1e-7) -> Tensor:
    """-mean [ln(p_0 / (p_0 + c)) + sum_(k>0) ln(c / (p_k + c))] of estimated probabilities.

    Args:
        p: [B, K + 1], of the right row of a memory and of K others, c = K / num_data.
        num_data: Rows of the memory.
        eps: Added to denominators.
    """
    c = (p.shape[1] - 1) / num_data
    right, others = p[:, 0], p[:, 1:]
    found = (right / (right + c + eps)).log() + (c / (others + c + eps)).log().sum(1)
    return -found.mean()


def contrast(similarity: Tensor, positive: Tensor, counted: Tensor | None = None) -> Tensor:
    """Mean over rows of the mean over positives of -(S_rq - ln sum_k exp S_rk).

    Args:
        similarity: S [N, K], divided by the temperature.
        positive: Which columns of a row are of its class [N, K] (bool).
        counted: Which columns the sum is over [N, K] (bool); all by default.
    """
    counted = torch.ones_like(positive) if counted is None else counted
    sums = similarity.masked_fill(~counted, -torch.inf).logsumexp(1, keepdim=True)
    found = (similarity - sums).masked_fill(~positive, 0)
    return -(found.sum(1) / positive.sum(1).clamp(min=1)).mean()


def unit(v: Tensor) -> Tensor:
    """Rows [B, D] divided by their length."""
    return F.normalize(v, eps=0)

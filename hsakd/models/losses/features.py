"""Losses of feature maps, embeddings and logits: one formula a function, shapes in brackets."""

import torch
import torch.nn.functional as F
from torch import Tensor


def pool_larger(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Maps [B, C, H, W] of which the larger is averaged to the side of the smaller."""
    side = min(s.shape[2], t.shape[2])
    return F.adaptive_avg_pool2d(s, side), F.adaptive_avg_pool2d(t, side)


def attention(maps: Tensor) -> Tensor:
    """Where a map [B, C, H, W] has its energy: l2(mean over channels of F^2) [B, H * W]."""
    return F.normalize(maps.pow(2).mean(1).flatten(1))


def attention_transfer(s: Tensor, t: Tensor) -> Tensor:
    """Mean (a(F_s) - a(F_t))^2 of maps of any channels and sides."""
    s, t = pool_larger(s, t)
    return F.mse_loss(attention(s), attention(t))


def similarity_preserving(s: Tensor, t: Tensor) -> Tensor:
    """Mean (G_t - G_s)^2 of the similarities [B, B] of images in maps; rows of G have length 1."""
    g_s, g_t = (F.normalize(f @ f.T) for f in (s.flatten(1), t.flatten(1)))
    return F.mse_loss(g_s, g_t)


def correlation_congruence(s: Tensor, t: Tensor) -> Tensor:
    """mean_i d_i . d_(i+1) of distances d = |v_s - v_t| [B, D] of embeddings."""
    d = (s - t).abs()
    return (d[:-1] * d[1:]).sum(1).mean()


def distances(h: Tensor) -> Tensor:
    """Distances [B, B] of embeddings [B, D], divided by the mean of those that are not 0."""
    square = h.pow(2).sum(1)
    found = (square[:, None] + square - 2 * h @ h.T).clamp(min=1e-12).sqrt()
    found = found * (1 - torch.eye(len(h), dtype=h.dtype, device=h.device))
    return found / found[found > 0].mean()


def angles(h: Tensor) -> Tensor:
    """Cosines [B, B, B] of the angles at each embedding between each two others."""
    u = F.normalize(h - h[:, None], dim=2)
    return u @ u.mT


def neuron_selectivity(s: Tensor, t: Tensor) -> Tensor:
    """k(t, t) + k(s, s) - 2 k(s, t), k the mean squared cosine of channels of maps."""
    s, t = (F.normalize(f.flatten(2), dim=2) for f in pool_larger(s, t))

    def k(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.mT).pow(2).mean()

    return k(t, t) + k(s, s) - 2 * k(s, t)


def probabilistic_transfer(s: Tensor, t: Tensor, eps: float = 1e-7) -> Tensor:
    """Mean Q_t ln(Q_t / Q_s) of the shares Q [B, B] of cosines of embeddings [B, D]."""

    def q(h: Tensor) -> Tensor:
        n = h / (h.norm(dim=1, keepdim=True) + eps)
        cosines = (n @ n.T + 1) / 2
        return cosines / cosines.sum(1, keepdim=True)

    q_s, q_t = q(s), q(t)
    return (q_t * ((q_t + eps) / (q_s + eps)).log()).mean()


def gaussian_likelihood(mean: Tensor, target: Tensor, scale: Tensor) -> Tensor:
    """Mean ((m - F_t)^2 / v + ln v) / 2, v = softplus(scale) + 1e-5 of each channel [C]."""
    v = (F.softplus(scale) + 1e-5)[:, None, None]
    return 0.5 * ((mean - target).pow(2) / v + v.log()).mean()


def hierarchical_context(s: Tensor, t: Tensor) -> Tensor:
    """Mean squared difference of maps and of their averages in 4x4, 2x2 and 1 cells.

    Each has half the weight of the one before; cells are not finer than the map.
    """
    weight = total = 1.0
    loss = F.mse_loss(s, t)
    for side in (4, 2, 1):
        if side < s.shape[2]:
            weight /= 2
            pooled = (F.adaptive_avg_pool2d(f, side) for f in (s, t))
            loss, total = loss + weight * F.mse_loss(*pooled), total + weight
    return loss / total


def standardized(z: Tensor) -> Tensor:
    """(z - mean) / (1e-7 + standard deviation) of each row of logits [B, K]."""
    return (z - z.mean(1, keepdim=True)) / (1e-7 + z.std(1, keepdim=True))


def target_class(s: Tensor, t: Tensor, y: Tensor, temperature: float) -> Tensor:
    """T^2 KL of the shares of the right class and of all others: TCKD of logits [B, K]."""
    q_s, q_t = ((z / temperature).softmax(1).gather(1, y[:, None]).squeeze(1) for z in (s, t))
    kl = q_t * (q_t / q_s).log() + (1 - q_t) * ((1 - q_t) / (1 - q_s)).log()
    return temperature**2 * kl.mean()


def other_classes(s: Tensor, t: Tensor, y: Tensor, temperature: float) -> Tensor:
    """T^2 KL among the classes that are not the right one: NCKD of logits [B, K]."""
    right = F.one_hot(y, s.shape[1]).bool()
    log_s, log_t = ((z[~right].view(len(z), -1) / temperature).log_softmax(1) for z in (s, t))
    return temperature**2 * F.kl_div(log_s, log_t, reduction='batchmean', log_target=True)


def correlation(a: Tensor, b: Tensor, eps: float = 1e-8) -> Tensor:
    """Pearson's correlation [B] of rows."""
    a, b = (x - x.mean(1, keepdim=True) for x in (a, b))
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + eps)


def activation_boundary(s: Tensor, t: Tensor, margin: float = 1.0) -> Tensor:
    """Mean over images of what lacks for the neurons of s to be on or off as those of t.

    Maps [B, C, H, W] from before a ReLU: (s + 1)^2 where s > -1 and t <= 0, (s - 1)^2 where s <= 1
    and t > 0, summed over an image.
    """
    off = (s > -margin) & (t <= 0)
    on = (s <= margin) & (t > 0)
    return (((s + margin) ** 2 * off).sum() + ((s - margin) ** 2 * on).sum()) / len(s)


def factor_transfer(s: Tensor, t: Tensor) -> Tensor:
    """Mean |a(s) - a(t)| of factors [B, C, H, W], a of :func:`attention`."""
    s, t = pool_larger(s, t)
    return F.l1_loss(attention(s), attention(t))


def similarity_of_copies(v: Tensor, copies: int = 4) -> tuple[Tensor, Tensor]:
    """Cosines [(M - 1) B, B] of the transformed copies of B images with the images themselves.

    Args:
        v: Embeddings [M * B, D], those of an image's M copies in a row, the image itself first.
        copies: M.

    Returns:
        The cosines, and the column [(M - 1) B] that is right: that of the copy's own image.
    """
    v = v.unflatten(0, (-1, copies))
    shown, others = v[:, 0], v[:, 1:].flatten(0, 1)
    right = torch.arange(len(shown), device=v.device).repeat_interleave(copies - 1)
    return F.normalize(others) @ F.normalize(shown).T, right


def most_confident(z: Tensor, right: Tensor, share: float) -> Tensor:
    """Rows of [N, K] where the right column is the largest, and of the others the least wrong.

    Args:
        z: Scores of a teacher.
        right: Column [N] of each row.
        share: Of the rows that are wrong, so many are taken, those first whose right column has
            the fewest above it.
    """
    rank = (z > z.gather(1, right[:, None])).sum(1)
    order = rank.argsort(stable=True)
    wrong = int((rank > 0).sum())
    return order[: len(z) - wrong + int(share * wrong)].sort().values


def flow_matrix(top: Tensor, bottom: Tensor) -> Tensor:
    """Mean over positions of top_i * bottom_j [B, I, J] of maps [B, I, H, W] and [B, J, h, w]."""
    top, bottom = (f.flatten(2) for f in pool_larger(top, bottom))
    return top @ bottom.mT / top.shape[2]

"""Losses of the distillers, and their weights."""

from .kl_divergence import KLDivergence
from .loss_weights import LossWeights

__all__ = ['KLDivergence', 'LossWeights']

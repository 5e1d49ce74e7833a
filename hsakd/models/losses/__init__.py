"""Losses of the distillers."""

from .kl_divergence import KLDivergence

__all__ = ['KLDivergence']

"""Helper layers of methods, which learn beside the student and are no part of it."""

from .fusion import AttentionFusion
from .projections import Regressor, VariationalHead

__all__ = ['AttentionFusion', 'Regressor', 'VariationalHead']

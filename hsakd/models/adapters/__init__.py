"""Helper layers of methods, which learn beside the student and are no part of it."""

from .fusion import AttentionFusion, FusionModule
from .memory import Memory, seeded
from .projections import MLP, Paraphraser, Regressor, SelfTeacher, Translator, VariationalHead

__all__ = [
    'MLP',
    'AttentionFusion',
    'FusionModule',
    'Memory',
    'Paraphraser',
    'Regressor',
    'SelfTeacher',
    'Translator',
    'VariationalHead',
    'seeded',
]

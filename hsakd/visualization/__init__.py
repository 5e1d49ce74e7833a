"""Pictures of what training gave; each function returns a PNG."""

from .classes import draw_classes, draw_examples
from .costs import draw_costs
from .curves import draw_curves
from .joint_distribution import JointDistributions, draw_joint_distributions

__all__ = [
    'JointDistributions',
    'draw_classes',
    'draw_costs',
    'draw_curves',
    'draw_examples',
    'draw_joint_distributions',
]

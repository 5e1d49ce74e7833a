"""Pictures and reports of what training gave."""

from .comparison import Comparison, Run, mean_std, read_scalars
from .curves import draw_comparison
from .joint_distribution import JointDistributions, draw_joint_distributions
from .report import render_report, summary_rows
from .results import collect, group_runs, to_csv, to_markdown
from .training_curves import draw_training_curves
from .work_dirs import find_runs, shipped_settings

__all__ = [
    'Comparison',
    'JointDistributions',
    'Run',
    'collect',
    'draw_comparison',
    'draw_joint_distributions',
    'draw_training_curves',
    'find_runs',
    'group_runs',
    'mean_std',
    'read_scalars',
    'render_report',
    'shipped_settings',
    'summary_rows',
    'to_csv',
    'to_markdown',
]

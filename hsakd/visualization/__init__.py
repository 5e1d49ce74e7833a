"""Pictures and reports of what training gave."""

from .comparison import Comparison, Run, mean_std, read_scalars
from .curves import draw_comparison
from .report import render_report, summary_rows

__all__ = [
    'Comparison',
    'Run',
    'draw_comparison',
    'mean_std',
    'read_scalars',
    'render_report',
    'summary_rows',
]

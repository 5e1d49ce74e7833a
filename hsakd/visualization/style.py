"""What the pictures share."""

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: The palette of Okabe and Ito, for all color vision, without its yellow, which is hard to see.
COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00', '#777777', '#000000')
_DASHES = ('-', '--', '-.', ':')


def line_style(number: int) -> dict[str, str]:
    """Color and dashes of one of several lines."""
    dashes = _DASHES[number // len(COLORS) % len(_DASHES)]
    return dict(color=COLORS[number % len(COLORS)], linestyle=dashes)


def new_figure(width: float, height: float) -> Figure:
    """A figure of a size in inches."""
    return Figure(figsize=(width, height), dpi=160, layout='constrained')


def plain(axes: Axes) -> None:
    """A faint grid, and no frame."""
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)


def png(figure: Figure) -> bytes:
    """The figure as a file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png')
    return buffer.getvalue()

"""Curves of training, by config and seed."""

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from hsakd.utils.errors import DataError

from .results import RunGroup

#: The palette of Okabe and Ito, for all colour vision, without its yellow, which is hard to see.
_COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00', '#000000')
_DASHES = ('-', '--', '-.', ':')
_TITLES = {
    'accuracy/top1': 'top-1 of the head (%)',
    'accuracy/top5': 'top-5 of the head (%)',
    'loss': 'loss, sum of all terms',
    'loss_cls': "loss_cls, cross entropy of the head's class",
}


def draw_training_curves(groups: Sequence[RunGroup], keys: Sequence[str]) -> bytes:
    """One panel a key, one line a group: the mean over its runs, and a band from lowest to highest.

    Where some runs of a group go on for longer than others, the line ends with the shortest.

    Args:
        groups: What to draw; runs of one group differ by their seeds alone.
        keys: What was logged, e.g. 'accuracy/top1' or 'loss_cls'.

    Returns:
        A PNG.

    Raises:
        DataError: No run has one of the keys, or some count epochs and others iterations.
    """
    runs = [run for group in groups for run in group.runs]
    units = sorted({run.unit for run in runs})
    if len(units) > 1:
        raise DataError(
            'some runs count epochs (train_cfg.max_epochs) and some iterations '
            '(train_cfg.max_iters); accepted are runs of one kind in a picture'
        )
    for key in keys:
        if not any(key in run.keys for run in runs):
            known = sorted({name for run in runs for name in run.keys} - {'step', 'iter', 'epoch'})
            raise DataError(f'--keys: no run has {key!r}; accepted are {", ".join(known)}')

    width = max(5.5 * len(keys), 7)  # inches
    labels = [textwrap.fill(_label(group), int(13 * width)) for group in groups]
    legend = 0.2 * sum(label.count('\n') + 1 for label in labels) + 0.3
    figure = Figure(figsize=(width, 3.6 + legend), dpi=160, layout='constrained')
    styles = [
        dict(color=_COLOURS[i % len(_COLOURS)], linestyle=_DASHES[i // len(_COLOURS) % 4])
        for i in range(len(groups))
    ]
    panels = figure.subplots(1, len(keys), squeeze=False, sharex=True)[0]
    for axes, key in zip(panels, keys, strict=True):
        for group, style in zip(groups, styles, strict=True):
            _draw(axes, group, key, style)
        axes.set_title(_TITLES.get(key, key), fontsize=11)
        axes.set_xlabel(units[0])
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
        if 'loss' in key.split('/')[-1] and axes.dataLim.y0 > 0:
            axes.set_yscale('log')
        axes.grid(alpha=0.25)
        axes.spines[['top', 'right']].set_visible(False)
    figure.legend(
        [Line2D([], [], linewidth=2, **style) for style in styles],
        labels,
        loc='outside lower left',
        fontsize=9,
        frameon=False,
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png')
    return buffer.getvalue()


def _draw(axes: Axes, group: RunGroup, key: str, style: dict) -> None:
    curves = [run.curve(key) for run in group.runs if key in run.keys]
    if not curves:
        return
    x = sorted(set.intersection(*map(set, curves)))
    values = np.array([[curve[at] for at in x] for curve in curves])
    marker = 'o' if len(x) == 1 else None
    axes.plot(x, values.mean(axis=0), linewidth=1.8, marker=marker, **style)
    if len(curves) > 1:
        axes.fill_between(
            x,
            values.min(axis=0),
            values.max(axis=0),
            color=style['color'],
            alpha=0.18,
            linewidth=0,
        )


def _label(group: RunGroup) -> str:
    seeds = f'seeds {group.seeds}' if len(group.runs) > 1 else f'seed {group.seeds}'
    unfinished = [run.progress for run in group.runs if not run.finished]
    return f'{group.label} ({", ".join([seeds, *unfinished])})'

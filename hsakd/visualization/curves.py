"""Curves of training, by config and seed."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from hsakd.results.tables import RunGroup
from hsakd.utils.errors import DataError

from .style import line_style, new_figure, plain, png

_TITLES = {
    'accuracy/top1': 'top-1 of the head (%)',
    'accuracy/top5': 'top-5 of the head (%)',
    'loss': 'loss, sum of all terms',
    'loss_cls': "loss_cls, cross entropy of the head's class",
}


def draw_curves(groups: Sequence[RunGroup], keys: Sequence[str]) -> bytes:
    """One panel a key, one line a group: the mean over its runs, and a band from lowest to highest.

    Where some runs of a group go on for longer than others, the line ends with the shortest.

    Args:
        groups: What to draw; runs of one group differ by their seeds alone.
        keys: What was logged, e.g. 'accuracy/top1' or 'loss_cls'.

    Raises:
        DataError: No run has one of the keys, or some count epochs and others iterations.
    """
    runs = [run for group in groups for run in group.runs]
    units = sorted({run.unit for run in runs})
    one_kind = 'runs that all count epochs or all iterations'
    DataError.check(
        len(units) == 1, 'a picture', one_kind, 'both (train_cfg.max_epochs, max_iters)'
    )
    known = sorted(set().union(*(run.keys for run in runs)))
    for key in keys:
        DataError.check(key in known, '--keys', ', '.join(known), repr(key))

    width = max(5.5 * len(keys), 7)
    labels = [textwrap.fill(_label(group), int(13 * width)) for group in groups]
    legend = 0.2 * sum(label.count('\n') + 1 for label in labels) + 0.3
    figure = new_figure(width, 3.6 + legend)
    styles = [line_style(number) for number in range(len(groups))]
    panels = figure.subplots(1, len(keys), squeeze=False, sharex=True)[0]
    for axes, key in zip(panels, keys, strict=True):
        for group, style in zip(groups, styles, strict=True):
            _draw(axes, group, key, style)
        axes.set_title(_TITLES.get(key, key), fontsize=11)
        axes.set_xlabel(units[0])
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
        if 'loss' in key.split('/')[-1] and axes.dataLim.y0 > 0:
            axes.set_yscale('log')
        plain(axes)
    handles = [Line2D([], [], linewidth=2, **style) for style in styles]
    figure.legend(handles, labels, loc='outside lower left', fontsize=9, frameon=False)
    return png(figure)


def _draw(axes: Axes, group: RunGroup, key: str, style: dict) -> None:
    curves = [curve for run in group.runs if (curve := run.curve(key))]
    if not curves:
        return
    x = sorted(set.intersection(*map(set, curves)))
    values = np.array([[curve[at] for at in x] for curve in curves])
    marker = 'o' if len(x) == 1 else None
    axes.plot(x, values.mean(axis=0), linewidth=1.8, marker=marker, **style)
    if len(curves) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axes.fill_between(x, low, high, color=style['color'], alpha=0.18, linewidth=0)


def _label(group: RunGroup) -> str:
    seeds = f'seeds {group.seeds}' if len(group.runs) > 1 else f'seed {group.seeds}'
    unfinished = [run.progress for run in group.runs if not run.finished]
    return f'{group.label} ({", ".join([seeds, *unfinished])})'

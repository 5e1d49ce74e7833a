"""Curves of training, by config and seed."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

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

    Runs that count iterations have a row of panels below that of those that count epochs. Where
    some runs of a group go on for longer than others, the line ends with the shortest.

    Args:
        groups: What to draw; runs of one group differ by their seeds alone.
        keys: What was logged, e.g. 'accuracy/top1' or 'loss_cls'.

    Raises:
        DataError: No run has curves, or none has one of the keys.
    """
    runs = [run for group in groups for run in group.runs]
    units = sorted({run.unit for run in runs})
    known = sorted(set().union(*(run.keys for run in runs)))
    DataError.check(known, 'WORK_DIR', 'a run with curves (SESSION/vis_data/scalars.json)', 'none')
    for key in keys:
        DataError.check(key in known, '--keys', ', '.join(known), repr(key))

    width = max(5.5 * len(keys), 7)
    labels = [textwrap.fill(_label(group), int(13 * width)) for group in groups]
    legend = 0.2 * sum(label.count('\n') + 1 for label in labels) + 0.3
    figure = new_figure(width, 3.6 * len(units) + legend)
    styles = [line_style(number) for number in range(len(groups))]
    panels = figure.subplots(len(units), len(keys), squeeze=False, sharex='row')
    for unit, row in zip(units, panels, strict=True):
        for axes, key in zip(row, keys, strict=True):
            pairs = zip(groups, styles, strict=True)
            shown = [(group, style) for group, style in pairs if group.runs[0].unit == unit]
            if not _draw(axes, shown, key):
                axes.set_axis_off()
                continue
            axes.set_title(_TITLES.get(key, key), fontsize=11)
            axes.set_xlabel(unit)
            whole = MaxNLocator(6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
            axes.xaxis.set_major_locator(whole)
            if 'loss' in key.split('/')[-1] and axes.dataLim.y0 > 0:
                axes.set_yscale('log')
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_major_formatter('{x:g}')
                axes.yaxis.set_minor_formatter(NullFormatter())
            plain(axes)
    handles = [Line2D([], [], linewidth=2, **style) for style in styles]
    figure.legend(handles, labels, loc='outside lower left', fontsize=9, frameon=False)
    return png(figure)


def _draw(axes: Axes, groups: Sequence[tuple[RunGroup, dict]], key: str) -> bool:
    """Draw the lines of groups, each with its style; whether there were any."""
    lines = []
    for group, style in groups:
        curves = [curve for run in group.runs if (curve := run.curve(key))]
        x = sorted(set.intersection(*map(set, curves))) if curves else []
        if x:
            lines.append((x, np.array([[curve[at] for at in x] for curve in curves]), style))
    means = [values.mean(axis=0) for _, values, _ in lines]
    for number, (x, values, style) in enumerate(lines):
        later = zip(lines[number + 1 :], means[number + 1 :], strict=True)
        # What will lie on it leaves a border of it to be seen.
        covers = sum(x == other[0] and np.allclose(means[number], m, 5e-3) for other, m in later)
        marker = 'o' if len(x) == 1 else None
        size = dict(linewidth=1.8 + 2.5 * covers, markersize=6 + 5 * covers)
        axes.plot(x, means[number], marker=marker, **size, **style)
        if len(values) > 1:
            low, high = values.min(axis=0), values.max(axis=0)
            axes.fill_between(x, low, high, color=style['color'], alpha=0.18, linewidth=0)
    return bool(lines)


def _label(group: RunGroup) -> str:
    seeds = f'seeds {group.seeds}' if len(group.runs) > 1 else f'seed {group.seeds}'
    unfinished = [run.progress for run in group.runs if not run.finished]
    return f'{group.label} ({", ".join([seeds, *unfinished])})'

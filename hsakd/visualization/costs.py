"""What accuracy costs to train."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter

from hsakd.results.names import ConfigName
from hsakd.results.tables import Row, mean_std, metric_title

from .style import COLORS, new_figure, plain, png

#: Height of a label, in inches.
_LINE = 0.24
_MARKERS = 'os^v'


def draw_costs(rows: Sequence[Row], minutes: Sequence[float] | None = None) -> bytes:
    """One point a row: accuracy, with its spread over seeds, over the minutes of training.

    Labels stand in a column at the right, in the order of accuracy, so that none covers another.
    Networks that are trained alone are diamonds. What differs in length alone has one color and
    marker, and a dashed line joins it.

    Args:
        rows: At least one, of one metric.
        minutes: Of each row; by default what the clock showed.
    """
    what = 'minutes of training, without what it started from'
    if minutes is None:
        minutes = [np.mean(row.minutes) for row in rows]
        what += ' (mean over seeds)'
    heights = [np.mean(list(row.values.values())) for row in rows]
    order = np.argsort(heights, kind='stable')
    rows, minutes, heights = ([each[i] for i in order] for each in (rows, minutes, heights))
    labels, title = _labels(rows)
    figure = new_figure(9, max(4, _LINE * len(rows) + 1.5))
    axes = figure.subplots()
    colors = []
    lines = _lines(rows)
    number_of = {i: number for number, line in enumerate(lines) for i in line}
    for i, (row, cost, height) in enumerate(zip(rows, minutes, heights, strict=True)):
        values = list(row.values.values())
        spread = np.std(values, ddof=1) if len(values) > 1 else None
        round_, color = divmod(number_of[i], len(COLORS) - 2)  # without gray and black
        marker, color = _MARKERS[round_ % len(_MARKERS)], COLORS[color]
        if _is_plain(row):
            marker, color = 'D', COLORS[-1]
            axes.axhline(height, color=color, linewidth=0.8, linestyle=':')
        colors.append(color)
        axes.errorbar(cost, height, spread, fmt=marker, color=color, capsize=3)
    for line in lines:
        points = sorted((minutes[i], heights[i]) for i in line)
        style = dict(color=colors[line[0]], linewidth=0.8, linestyle='--', zorder=0)
        axes.plot(*zip(*points, strict=True), **style)
    axes.margins(0.06, 0.1)
    if min(minutes) > 0 and max(minutes) > 10 * min(minutes):
        axes.set_xscale('log')
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter('{x:g}')
        axes.xaxis.set_minor_formatter(NullFormatter())
    low, high = axes.get_ylim()
    gap = (high - low) * _LINE / (figure.get_figheight() - 1)
    places = _apart(heights, gap, low, high)
    shown = zip(rows, labels, minutes, heights, places, colors, strict=True)
    for row, label, cost, height, place, color in shown:
        axes.annotate(
            f'{label}  {mean_std(row.values.values())}',
            (cost, height),
            (1.03, (place - low) / (high - low)),
            textcoords='axes fraction',
            va='center',
            fontsize=9,
            color=color,
            arrowprops=dict(
                arrowstyle='-', color=color, alpha=0.5, linewidth=0.7, relpos=(0, 0.5), shrinkB=4
            ),
        )
    axes.set_ylim(low, high)
    axes.set_title(title, fontsize=11, loc='left')
    axes.set_xlabel(what)
    axes.set_ylabel(f'{metric_title(rows[0].metric)} (%), mean ± standard deviation')
    plain(axes)
    return png(figure)


def _is_plain(row: Row) -> bool:
    name = ConfigName.parse(row.group.name)
    return name is not None and not name.method


def _lines(rows: Sequence[Row]) -> list[list[int]]:
    """Rows by number that are of one method and the same networks, and so differ in length."""
    found = defaultdict(list)
    for number, row in enumerate(rows):
        name = ConfigName.parse(row.group.name)
        key = (name.method, name.networks, name.dataset, row.network) if name else number
        found[key].append(number)
    return list(found.values())


def _labels(rows: Sequence[Row]) -> tuple[list[str], str]:
    """What tells the rows apart, the method, or with its length, and the rest as a title."""
    names = [ConfigName.parse(row.group.name) for row in rows]
    if all(names):
        labels = [name.method or 'plain' for name in names]
        students = {(name.networks[-1], name.dataset) for name in names}
        title = ' on '.join(next(iter(students)))
        if len(set(labels)) < len(rows):
            lengths = [f', {name.length} {name.unit}s' for name in names]
            (usual, times), *_ = Counter(lengths).most_common()
            if times > 1:
                title += f'{usual} where not said'
            pairs = zip(labels, lengths, strict=True)
            labels = [label + of * (of != usual or times == 1) for label, of in pairs]
        if len(set(labels)) == len(rows) and len(students) == 1:
            return labels, title
    networks = ['' if row.network is None else f', network {row.network}' for row in rows]
    return [row.group.label + number for row, number in zip(rows, networks, strict=True)], ''


def _apart(heights: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """Ascending heights moved to be at least a gap apart, from low to high if there is room."""

    def upwards(values: np.ndarray) -> np.ndarray:
        steps = gap * np.arange(len(values))
        return np.maximum.accumulate(values - steps) + steps

    def downwards(values: np.ndarray) -> np.ndarray:
        return -upwards(-values[::-1])[::-1]

    values = np.array(heights, dtype=float)
    places = (upwards(values) + downwards(values)) / 2
    return downwards(np.minimum(upwards(np.maximum(places, low)), high))

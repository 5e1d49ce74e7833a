"""Two classifiers on the same test images: accuracy by class, and images that one gets right."""

from collections.abc import Sequence

import numpy as np

from .style import COLORS, new_figure, plain, png

#: Classes shown at most: those with the largest gains, and those with the largest losses.
_MAX_CLASSES = 30
#: Images in a row.
_COLUMNS = 8


def draw_classes(
    classes: Sequence[str], accuracies: tuple[np.ndarray, np.ndarray], names: tuple[str, str]
) -> bytes:
    """One line a class, by gain: the accuracy of both, and the difference.

    Args:
        classes: Names of the N classes.
        accuracies: Percent [N] of the baseline and of the other, NaN of classes without images.
        names: Of the two.
    """
    gains = accuracies[1] - accuracies[0]
    order = [i for i in np.argsort(gains, kind='stable') if not np.isnan(gains[i])]
    half = _MAX_CLASSES // 2
    shown = order if len(order) <= _MAX_CLASSES else [*order[:half], *order[-half:]]
    figure = new_figure(7, 0.24 * len(shown) + 1.5)
    axes = figure.subplots()
    rows = range(len(shown))
    before, after = (accuracy[shown] for accuracy in accuracies)
    better = [COLORS[0] if gain >= 0 else COLORS[1] for gain in gains[shown]]
    axes.hlines(rows, before, after, colors=better, linewidth=2.5, alpha=0.6)
    axes.scatter(before, rows, color=COLORS[6], s=28, zorder=3, label=names[0])
    axes.scatter(after, rows, color=better, s=28, zorder=3)
    axes.scatter([], [], color=COLORS[0], s=28, label=f'{names[1]} (blue: better, orange: worse)')
    axes.set_yticks(rows, [_short(classes[i]) for i in shown], fontsize=8)
    axes.set_ylim(-0.7, len(shown) - 0.3)
    right = axes.secondary_yaxis('right')
    right.set_yticks(rows, [f'{gains[i]:+.1f}' for i in shown], fontsize=8)
    right.tick_params(length=0)
    right.spines['right'].set_visible(False)
    axes.set_xlabel('test images of the class that are right (%); points gained at the right')
    if len(shown) < len(order):
        axes.axhline(half - 0.5, color='#888888', linewidth=0.8, linestyle=':')
        title = f'The {half} classes with most gain, and the {half} with least, of {len(order)}'
        axes.set_title(title, fontsize=11)
    plain(axes)
    figure.legend(loc='outside upper left', fontsize=9, frameon=False)
    return png(figure)


def draw_examples(
    images: Sequence[np.ndarray], titles: Sequence[str], truths: Sequence[str]
) -> bytes:
    """Test images, with what the two said above each, and its class below.

    Args:
        images: [H, W, 3] each, uint8.
        titles: Above each.
        truths: Below each.
    """
    rows = -(-len(images) // _COLUMNS)
    figure = new_figure(1.3 * _COLUMNS, 1.75 * rows)
    panels = list(figure.subplots(rows, _COLUMNS, squeeze=False).flat)
    for axes in panels:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes, image, title, truth in zip(panels, images, titles, truths, strict=False):
        axes.imshow(image, interpolation='nearest')
        axes.set_title(title, fontsize=8, pad=2)
        axes.set_xlabel(truth, fontsize=8, labelpad=1)
    return png(figure)


def _short(name: str) -> str:
    return name if len(name) <= 24 else f'{name[:23]}…'

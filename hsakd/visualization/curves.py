"""The picture of a comparison."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from .comparison import Comparison, Run

#: Of teacher, plain and distilled student: the palette of Okabe and Ito, for all colour vision.
COLOURS = ('#777777', '#D55E00', '#0072B2')
_DASHES = ('--', '-.', '-')
_ROWS, _COLUMNS = 4, 3


def draw_comparison(comparison: Comparison) -> bytes:
    """Accuracy and loss by epoch, and digits that distillation got right; a PNG.

    With several seeds lines are means, and bands reach from the lowest to the highest.
    """
    figure = Figure(figsize=(10.5, 4.4), dpi=160, layout='constrained')
    left, right = figure.subfigures(1, 2, width_ratios=[2.6, 1])
    accuracy, loss = left.subplots(1, 2, width_ratios=[1.25, 1])

    _draw_curves(accuracy, comparison, 'accuracy/top1')
    lowest = min(run.top1 for _, runs in comparison for run in runs)
    accuracy.set_ylim(max(0, 5 * (lowest // 5 - 2)), 100)
    accuracy.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True))
    accuracy.set_ylabel('top-1 on the test images (%)')
    accuracy.set_title('Test accuracy of the head')
    _label_ends(accuracy, comparison)

    _draw_curves(loss, comparison, 'loss_cls')
    loss.set_yscale('log')
    loss.set_ylabel("cross entropy of the head's class (nats)")
    loss.set_title('Training loss common to all')

    for axes in (accuracy, loss):
        axes.set_xlabel('epoch')
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
        axes.grid(alpha=0.25)
        axes.spines[['top', 'right']].set_visible(False)
        axes.title.set_fontsize(11)
    _draw_examples(right, comparison)

    buffer = io.BytesIO()
    figure.savefig(buffer, format='png')
    return buffer.getvalue()


def _draw_curves(axes: Axes, comparison: Comparison, key: str) -> None:
    for (_, runs), colour, dashes in zip(comparison, COLOURS, _DASHES, strict=True):
        epochs, values = _curves(runs, key)
        marker = 'o' if len(epochs) == 1 else None
        axes.plot(epochs, values.mean(axis=0), dashes, color=colour, linewidth=2, marker=marker)
        axes.fill_between(
            epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0
        )


def _curves(runs: Sequence[Run], key: str) -> tuple[list[float], np.ndarray]:
    """Epochs [E], and values [runs, E]."""
    return runs[0].curve(key)[0], np.array([run.curve(key)[1] for run in runs])


def _label_ends(axes: Axes, comparison: Comparison) -> None:
    """Names and last values beside the ends of the lines, pushed apart where they would touch."""
    low, high = axes.get_ylim()
    gap = (high - low) / 8
    ends = []
    for (label, runs), colour in zip(comparison, COLOURS, strict=True):
        two_lines = '\n'.join(label.rsplit(maxsplit=1))
        ends.append((np.mean([run.top1 for run in runs]), two_lines, colour))
    ends.sort()
    epoch = comparison.plain[0].curve('accuracy/top1')[0][-1]
    y = low - gap / 2
    for position, (value, label, colour) in enumerate(ends):
        room = high - gap * (len(ends) - position - 0.5)  # what the labels above leave
        y = min(max(value, y + gap), room)
        axes.annotate(
            f'{value:.1f} {label}',
            (epoch, y),
            xytext=(8, 0),
            textcoords='offset points',
            annotation_clip=False,
            color=colour,
            va='center',
            fontsize=9,
        )


def _draw_examples(figure: SubFigure, comparison: Comparison) -> None:
    """Test images that the plain student of the first seed got wrong and the distilled one not."""
    gained, lost = comparison.only_right()
    of_seed = f', seed {comparison.seeds[0]}' if len(comparison.seeds) > 1 else ''
    figure.suptitle(
        f'Right only with distillation: {len(gained)},\nonly without: {len(lost)}{of_seed}',
        fontsize=11,
    )
    count = min(len(gained), _ROWS * _COLUMNS)
    chosen = gained[np.linspace(0, len(gained) - 1, count).astype(int)]
    plain, distilled = comparison.plain[0].predictions, comparison.distilled[0].predictions
    for position, axes in enumerate(figure.subplots(_ROWS, _COLUMNS).flat):
        axes.set_axis_off()
        if position < len(chosen):
            index = chosen[position]
            axes.imshow(comparison.images[index], interpolation='nearest')
            axes.set_title(f'{plain[index]} → {distilled[index]}', fontsize=9, pad=2)
    figure.supxlabel('plain student → distilled student', fontsize=9)

"""Pictures of detectors side by side: precision over recall, and boxes on images."""

import math
from collections.abc import Mapping, Sequence

import mmcv
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from mmdet.evaluation.functional import eval_map

from hsakd.utils.errors import DataError

from .style import line_style, new_figure, plain, png

#: What :func:`draw_precision_recall` shows at most.
_MAX_CLASSES = 12
_IOU = 0.5


def precision_recall(samples: Sequence[Mapping], num_classes: int, legacy: bool) -> list[dict]:
    """Precision over recall at an IoU of 0.5, and its area, by ``eval_map`` of mmdet.

    Args:
        samples: Predictions as tools/test.py --out writes them, one an image.
        num_classes: Of the detector.
        legacy: Boxes include their last pixel, as in VOC and in mmdet's metric of it.

    Returns:
        By class: ``recall`` and ``precision`` after each detection, by falling score; ``ap`` (all
        of them 0..1); and ``num_gts``.
    """
    detections, truths = [], []
    for sample in samples:
        found, truth, ignored = (
            {key: np.asarray(value) for key, value in sample[part].items()}
            for part in ('pred_instances', 'gt_instances', 'ignored_instances')
        )
        scored = np.column_stack([found['bboxes'].reshape(-1, 4), found['scores']])
        detections.append([scored[found['labels'] == label] for label in range(num_classes)])
        truths.append(
            dict(
                bboxes=truth['bboxes'],
                labels=truth['labels'],
                bboxes_ignore=ignored['bboxes'],
                labels_ignore=ignored['labels'],
            )
        )
    return eval_map(
        detections, truths, iou_thr=_IOU, logger='silent', use_legacy_coordinate=legacy
    )[1]


def draw_precision_recall(
    curves: Mapping[str, Sequence[Mapping]], classes: Sequence[str], title: str
) -> bytes:
    """One panel a class, one line a detector; a PNG.

    Of many classes those with most boxes are shown. Classes without a box are left out.

    Args:
        curves: What :func:`precision_recall` gave, by name of the detector.
        classes: Names of the classes.
        title: Of what; how many classes are shown is added.
    """
    boxes = [result['num_gts'] for result in next(iter(curves.values()))]
    by_boxes = sorted((i for i in range(len(classes)) if boxes[i]), key=lambda i: -boxes[i])
    shown = sorted(by_boxes[:_MAX_CLASSES])
    columns = min(4, len(shown)) or 1
    rows = math.ceil(len(shown) / columns) or 1
    figure = new_figure(max(3.3 * columns, 6.6), 3.1 * rows + 0.8)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in panels.flat[len(shown) :]:
        axes.set_axis_off()
    for axes, label in zip(panels.flat, shown, strict=False):
        for number, (name, results) in enumerate(curves.items()):
            result = results[label]
            axes.plot(
                [0, *result['recall']],
                [*result['precision'][:1], *result['precision']] or [0],
                linewidth=1.6,
                label=f'{name}: AP {100 * result["ap"]:.1f}',
                **line_style(number),
            )
        axes.set(xlim=(0, 1.02), ylim=(0, 1.05))
        axes.set_title(f'{classes[label]} ({boxes[label]} boxes)', fontsize=11)
        plain(axes)
        axes.legend(fontsize=8.5, framealpha=0.85)
    hidden = len(classes) - len(shown)
    of_most = f'; the {len(shown)} of {len(classes)} classes with most boxes' if hidden else ''
    figure.suptitle(f'{title}{of_most}', fontsize=12)
    figure.supxlabel('recall', fontsize=11)
    figure.supylabel('precision', fontsize=11)
    return png(figure)


def draw_predictions(
    predictions: Mapping[str, Sequence[Mapping]],
    classes: Sequence[str],
    count: int,
    score_thr: float,
    title: str,
) -> bytes:
    """Rows of images, evenly taken from those with boxes; ground truth, then each detector; a PNG.

    Dashed boxes of the ground truth count neither way: difficult ones of VOC, crowds of COCO.

    Args:
        predictions: Those of tools/test.py --out, by name of the detector, of the same images.
        classes: Names of the classes.
        count: How many images.
        score_thr: The lowest score of a box that is drawn.
        title: Of what.

    Raises:
        DataError: An image cannot be read, or the predictions are of other images.
    """
    by_path = {name: {s['img_path']: s for s in samples} for name, samples in predictions.items()}
    first = next(iter(by_path.values()))
    for name, samples in by_path.items():
        same = f'the images of {next(iter(by_path))}'
        ok = samples.keys() == first.keys()
        DataError.check(ok, f'predictions of {name}', same, 'other ones')
    paths = [path for path, s in first.items() if len(s['gt_instances']['labels'])] or list(first)
    rows = min(count, len(paths))
    chosen = [paths[round(i)] for i in np.linspace(0, len(paths) - 1, rows)]
    images = [_read_image(path) for path in chosen]

    columns = ['ground truth', *predictions]
    cells = []
    for path in chosen:
        truth = first[path]['gt_instances']
        boxes = [_boxes(truth)]
        for samples in by_path.values():
            found = samples[path]['pred_instances']
            boxes.append(_boxes(found, np.asarray(found['scores']) >= score_thr))
        cells.append(boxes)
    shown = sorted({label for row in cells for boxes in row for label, _ in boxes})
    palette = colormaps['Set1'].colors[:5] + colormaps['Set2'].colors
    colors = {label: palette[i % len(palette)] for i, label in enumerate(shown)}

    width = 3.2
    heights = [width * image.shape[0] / image.shape[1] for image in images]
    figure = new_figure(max(width * len(columns), 6), sum(heights) + 0.3 * rows + 1)
    panels = figure.subplots(rows, len(columns), squeeze=False, height_ratios=heights)
    for axes_row, image, path, row in zip(panels, images, chosen, cells, strict=True):
        for axes, boxes in zip(axes_row, row, strict=True):
            axes.imshow(image)
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(f'{len(boxes)} box{"" if len(boxes) == 1 else "es"}', fontsize=9)
            for label, box in boxes:
                _draw_box(axes, box, colors[label])
        for _, box in _boxes(first[path]['ignored_instances']):
            _draw_box(axes_row[0], box, 'white', '--')
        axes_row[0].set_ylabel(_short(path), fontsize=9)
    for axes, name in zip(panels[0], columns, strict=True):
        axes.set_title(name, fontsize=12)
    figure.suptitle(f'{title}, boxes with scores of {score_thr:g} and more', fontsize=12)
    handles = [Line2D([], [], color=colors[i], linewidth=4, label=classes[i]) for i in shown]
    if any(len(first[path]['ignored_instances']['labels']) for path in chosen):
        stroke = [withStroke(linewidth=3, foreground='black')]
        handles.append(
            Line2D([], [], color='white', linestyle='--', path_effects=stroke, label='not counted')
        )
    figure.legend(
        handles=handles,
        loc='outside lower center',
        ncols=min(len(handles), 2 * len(columns)) or 1,
        fontsize=11,
    )
    return png(figure)


def _boxes(instances: Mapping, kept: np.ndarray | slice = slice(None)) -> list[tuple[int, list]]:
    """Label and (x1, y1, x2, y2) in pixels of each."""
    labels, boxes = (np.asarray(instances[key])[kept] for key in ('labels', 'bboxes'))
    return list(zip(labels.tolist(), boxes.tolist(), strict=True))


def _draw_box(axes: Axes, box: Sequence[float], color: tuple | str, style: str = '-') -> None:
    (x1, y1, x2, y2), width = box, 1.8
    edge = Rectangle(
        (x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linewidth=width, linestyle=style
    )
    edge.set_path_effects([withStroke(linewidth=width + 1, foreground='black')])
    axes.add_patch(edge)


def _short(path: str) -> str:
    name = path.rsplit('/', maxsplit=1)[-1]
    return name if len(name) <= 24 else f'…{name[-23:]}'


def _read_image(path: str) -> np.ndarray:
    """As the detector saw it [H, W, 3], uint8, RGB."""
    try:
        image = mmcv.imread(path, channel_order='rgb')
    except OSError as error:
        raise DataError.expected(repr(path), 'an image', error.strerror or error) from error
    DataError.check(image is not None, repr(path), 'an image that OpenCV reads', 'another file')
    return image

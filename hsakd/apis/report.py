"""One self-contained HTML page on any runs: what one gained over another, and where."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from string import Template

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from mmpretrain.models import ImageClassifier

from hsakd.registry import DATASETS
from hsakd.results.names import ConfigName
from hsakd.results.runs import Run
from hsakd.results.settings import settings_text
from hsakd.results.tables import Results, Row, differences, gain, mean_std, metric_title, table
from hsakd.utils.checkpoint import read_checkpoint
from hsakd.utils.config_text import checkpoint_config
from hsakd.utils.errors import ConfigError, DataError, UserError
from hsakd.utils.networks import has_teacher, network_keys
from hsakd.visualization import (
    draw_classes,
    draw_curves,
    draw_examples,
    draw_joint_distributions,
)

from .classifier import class_names, load_classifier
from .costs import Cost, inference_cost
from .joint_distribution import load_pair, shown_pixels, test_images

_BATCH = 256
_JOINT_IMAGES = 2
_WORST_CLASSES = 5


@dataclass
class Tested:
    """A network on the test images of its config.

    Attributes:
        config: Of its first run.
        classifier: Of the same.
        predictions: Predicted classes [N] of the test images, by run.
        confidences: Probabilities [N] that the first run gave them, 0 to 1.
        labels: Their classes [N].
        cost: Of inference.
    """

    config: Config
    classifier: ImageClassifier
    predictions: list[np.ndarray]
    confidences: np.ndarray
    labels: np.ndarray
    cost: Cost

    @property
    def classes(self) -> list[str]:
        """Names of the classes; numbers where names lack."""
        return class_names(self.classifier)

    @property
    def calibration_error(self) -> float:
        """By how many percent confidence is off: ECE of the first run, 15 bins of equal width.

        "On Calibration of Modern Neural Networks", eq. 3.
        """
        off = (self.predictions[0] == self.labels) - self.confidences
        bins = np.minimum((15 * self.confidences).astype(int), 14)
        return 100 * float(np.abs(np.bincount(bins, off)).sum()) / len(off)

    def confusions(self) -> list[list[str]]:
        """Of the worst classes: name, percent right, and the classes they are taken for.

        Of the first run, and percent of the images of the class.
        """
        lines, first = [], self.predictions[0]
        for worst in np.argsort(self.by_class, kind='stable')[:_WORST_CLASSES]:
            found = first[self.labels == worst]
            counts = np.bincount(found, minlength=len(self.classes))
            counts[worst] = 0
            wrong = [i for i in np.argsort(-counts, kind='stable')[:3] if counts[i]]
            taken = [f'{self.classes[i]} {100 * counts[i] / len(found):.1f}' for i in wrong]
            if taken:
                lines.append([self.classes[worst], f'{self.by_class[worst]:.1f}', ', '.join(taken)])
        return lines

    @property
    def by_class(self) -> np.ndarray:
        """Percent right of the images of each class, mean over runs; NaN without images."""
        right = np.mean([found == self.labels for found in self.predictions], axis=0)
        count = np.bincount(self.labels, minlength=len(self.classes))
        with np.errstate(invalid='ignore'):
            return 100 * np.bincount(self.labels, right, len(self.classes)) / count


@dataclass
class Report:
    """A page and its pictures.

    Attributes:
        verdicts: A sentence or two for each comparison.
        page: HTML, with everything it needs inside.
        curves: The PNG of the curves.
        notes: What could not be shown, and why.
    """

    verdicts: list[str]
    page: str
    curves: bytes
    notes: list[str] = field(default_factory=list)


def compared(results: Results, first: str | None = None) -> list[tuple[Row, Row]]:
    """Rows with what each is compared with: its baseline, else its teacher, else the first row.

    Args:
        results: Of :func:`~hsakd.results.tables.collect`.
        first: Name of the config of the first row.
    """
    found = [(row, row.baseline) for row in results.rows if row.baseline and _learns(row)]
    found = found or [(row, row.baseline) for row in results.rows if row.baseline]
    taught = [(row, _teacher(row, results)) for row in results.rows if _learns(row)]
    found = found or [(row, teacher) for row, teacher in taught if teacher]
    if found:
        return found
    rows = sorted(results.rows, key=lambda row: row.group.name != first)
    return [(row, rows[0]) for row in rows[1:]]


def make_report(results: Results, first: str | None = None, test: bool = True) -> Report:
    """Compare runs and render the page.

    Args:
        results: Of :func:`~hsakd.results.tables.collect`.
        first: As of :func:`compared`.
        test: Test the last checkpoints of classifiers, for accuracies by class and images.

    Raises:
        DataError: No run finished.
    """
    left_out = '; '.join(map(str, results.left_out)) or 'none'
    DataError.check(results.rows, 'WORK_DIR', 'a run that finished its schedule', left_out)
    report = Report([], '', b'', [*map(str, results.left_out), *results.notes])
    tested = [_tested(row, report) if test else None for row in results.rows]
    by_row = {id(row): found for row, found in zip(results.rows, tested, strict=True)}
    sections = []
    for own, other in compared(results, first):
        teacher = _teacher(own, results)
        for with_whom in filter(None, dict.fromkeys((other, teacher))):
            pair = by_row[id(own)], by_row[id(with_whom)]
            names = _short_name(own), _short_name(with_whom)
            verdict, pictures = _verdict(own, with_whom, teacher), []
            if all(pair) and np.array_equal(pair[0].labels, pair[1].labels):
                verdict, pictures, gained = _examined(own, pair, names, verdict)
                if with_whom is other and has_teacher(pair[0].config.model):
                    pictures += _joint_distributions(own, pair[0], gained, report)
            if with_whom is other:
                report.verdicts.append(verdict)
            title = f'<h2>{escape(names[0])} and {escape(names[1])}</h2>'
            sections.append(f'{title}\n<p>{escape(verdict)}</p>\n' + '\n'.join(pictures))
    sections += [_confusions(*found) for found in zip(results.rows, tested, strict=True)]
    groups = list({id(row.group): row.group for row in results.rows}.values())
    known = set.intersection(*(group.runs[0].keys for group in groups))
    keys = [results.rows[0].metric, *(key for key in ('loss_cls', 'loss') if key in known)][:2]
    report.curves = draw_curves(groups, keys)
    report.page = _PAGE.substitute(
        verdict=escape(' '.join(report.verdicts) or 'One kind of runs.'),
        summary=_summary(results, tested),
        curves=_image(report.curves, 'Curves of training'),
        sections='\n'.join(sections),
        branches=_branches(groups),
        runs='\n'.join(map(_describe, groups)),
        notes=''.join(f'<li>{escape(note)}</li>' for note in report.notes),
        date=datetime.now().astimezone().strftime('%Y-%m-%d %H:%M %Z'),
    )
    return report


def _teacher(row: Row, results: Results) -> Row | None:
    """The teacher of a row, where it is among the results."""
    origin = str(_settings(row).get('model.teacher_ckpt')).split('/')[0]
    teachers = [other for other in results.rows if other.group.name == origin]
    return teachers[0] if len(teachers) == 1 else None


def _confusions(row: Row, tested: Tested | None) -> str:
    """Which classes the worst ones are taken for."""
    lines = tested.confusions() if tested and _learns(row) else []
    if not lines:
        return ''
    header = ['class', 'right (%)', 'taken for (% of its images)']
    return f'<h3>The worst classes of {escape(_short_name(row))}</h3>\n{_table(header, lines)}'


def _learns(row: Row) -> bool:
    """Whether it learns from others, as a student and networks online do."""
    return network_keys(_settings(row)) != ['model']


def _settings(row: Row) -> dict[str, object]:
    return row.group.runs[0].settings


def _short_name(row: Row) -> str:
    """As in 'wrn-10-1 (hsakd-offline)'; the whole label of a config of another kind of name."""
    name = ConfigName.parse(row.group.name)
    if name is None:
        return row.group.label
    networks = name.networks
    number = -1 if row.network is None or len(networks) == 1 else row.network
    which = '' if row.network is None else f', network {row.network}'
    changed = f', {settings_text(row.group.changes)}' if row.group.changes else ''
    changed = changed if len(changed) < 40 else ', changed settings'
    return f'{networks[number]} ({name.method or "alone"}{which}{changed})'


def _verdict(own: Row, other: Row, teacher: Row | None) -> str:
    """What one gained over the other or cost, in a sentence or two."""
    paired = own.values.keys() <= other.values.keys()
    others = {seed: other.values[seed] for seed in own.values} if paired else other.values
    mean, spread = gain(own.values, others)
    names = _short_name(own), _short_name(other)
    change = f'{abs(mean):.2f} points {"more" if mean > 0 else "less"} than'
    if round(mean, 2) == 0:
        change = 'as much as'
    reached = f'{mean_std(own.values.values())} % {metric_title(own.metric)}'
    its = 'its teacher ' if teacher is other else ''
    text = f'{names[0]}: {reached}, {change} {its}{names[1]}'
    if spread is not None:
        text += f' (± {spread:.2f})'
    text += f', with {mean_std(others.values())} %.'
    if paired and len(others) > 1:
        better = sum(value > others[seed] for seed, value in own.values.items())
        text += f' It is better with {better} of {len(others)} seeds.'
    if teacher is not None and teacher is not other:
        text += f' Its teacher: {mean_std(teacher.values.values())} %.'
    if own.baseline is not other and teacher is not other:
        keys = differences(own, other)
        text += f' The two were not trained in the same way ({", ".join(keys)}).' if keys else ''
    return text


def _examined(
    own: Row, pair: tuple[Tested, Tested], names: tuple[str, str], verdict: str
) -> tuple[str, list[str], np.ndarray]:
    """The verdict with counts of images of the first runs, pictures, and the images gained."""
    mine, its = pair
    right = [tested.predictions[0] == tested.labels for tested in pair]
    gained, lost = np.flatnonzero(right[0] & ~right[1]), np.flatnonzero(right[1] & ~right[0])
    verdict += (
        f' Of {len(mine.labels):,} test images it alone gets {len(gained):,} right, the '
        f'other alone {len(lost):,} (seed {own.group.runs[0].seed}).'
    )
    picture = draw_classes(mine.classes, (its.by_class, mine.by_class), names[::-1])
    shown = [_image(picture, 'Accuracy by class')]
    for indices, name in ((gained, names[0]), (lost, names[1])):
        if len(indices):
            caption = f'Images that only {name} gets right'
            picture = _image(_draw_images(pair, indices), caption)
            shown.append(f'<h3>{escape(caption)}</h3>\n{picture}')
    return verdict, shown, gained


def _joint_distributions(
    own: Row, tested: Tested, indices: np.ndarray, report: Report
) -> list[str]:
    """Heat maps of a student and its teacher on the first of some images."""
    chosen = (indices if len(indices) else np.arange(len(tested.labels)))[:_JOINT_IMAGES]
    try:
        learned = load_pair(tested.config, str(own.group.runs[0].checkpoint))
        found = learned.examine(*test_images(learned, chosen.tolist()))
    except (UserError, OSError) as error:
        report.notes.append(f'no joint distributions: {error}')
        return []
    picture = draw_joint_distributions(found, learned.classes, learned.transforms, learned.names)
    return [f'<h3>Class and transform together</h3>\n{_image(picture, "Heat maps")}']


def _draw_images(pair: tuple[Tested, Tested], indices: np.ndarray) -> bytes:
    mine, its = pair
    chosen = indices[np.linspace(0, len(indices) - 1, min(len(indices), 16)).astype(int)]
    dataset, classes = _test_set(mine.config), mine.classes
    images = []
    for index in chosen:  # which may differ in size
        preprocessor = mine.classifier.data_preprocessor
        inputs = preprocessor(pseudo_collate([dataset[int(index)]]))['inputs']
        images.append(shown_pixels(preprocessor, inputs)[0].numpy())
    found = zip(its.predictions[0][chosen], mine.predictions[0][chosen], strict=True)
    titles = [f'{classes[before]} → {classes[after]}' for before, after in found]
    return draw_examples(images, titles, [f'is {classes[i]}' for i in mine.labels[chosen]])


def _test_set(config: Config) -> torch.utils.data.Dataset:
    with DefaultScope.overwrite_default_scope(config.get('default_scope') or 'hsakd'):
        return DATASETS.build(config.test_dataloader.dataset)


def _tested(row: Row, report: Report) -> Tested | None:
    """Every run of a row on the test images; None, with a note, where that cannot be."""
    try:
        runs = [_test(run, row.network) for run in row.group.runs]
    except (UserError, OSError) as error:
        report.notes.append(f'{_short_name(row)} was not tested: {error}')
        return None
    config, classifier, found, labels = runs[0]
    predictions = [found[:, 0].astype(int) for _, _, found, _ in runs]
    return Tested(config, classifier, predictions, found[:, 1], labels, inference_cost(classifier))


def _test(run: Run, network: int | None) -> tuple[Config, ImageClassifier, np.ndarray, np.ndarray]:
    """Config, classifier, predicted classes and their probabilities [N, 2], and classes [N]."""
    path = run.checkpoint
    config = checkpoint_config(read_checkpoint(path, 'checkpoint'), path, 'checkpoint')
    is_classifier = config.get('default_scope') != 'mmdet'
    ConfigError.check(is_classifier, f'checkpoint={str(path)!r}', 'a classifier', 'a detector')
    classifier = load_classifier(path, config, network).to(get_device())
    dataset = _test_set(config)
    found = []
    for start in range(0, len(dataset), _BATCH):
        batch = [dataset[i] for i in range(start, min(start + _BATCH, len(dataset)))]
        samples = classifier.test_step(pseudo_collate(batch))
        found += [(s.pred_label.item(), s.pred_score.max().item()) for s in samples]
    return config, classifier, np.array(found), np.array(dataset.get_gt_labels())


def _summary(results: Results, tested: Sequence[Tested | None]) -> str:
    header, lines = table(results)
    rows = []
    for row, line, found in zip(results.rows, lines, tested, strict=True):
        shown = [''] * len(_COSTS)
        if found:
            cost = found.cost
            shown = [
                f'{found.calibration_error:.1f}',
                f'{cost.parameters:,}',
                f'{cost.multiply_adds / 1e6:,.1f}',
                f'{cost.megabytes:.2f}',
                f'{cost.milliseconds:.2f}',
            ]
        rows.append([_short_name(row), *line, *shown])
    return _table(['network', *header, *_COSTS], rows)


def _branches(groups: Sequence) -> str:
    """Accuracies at the end that are not the head's, of runs that measured some."""
    pattern = re.compile(r'branch_\d+/\w+_top1$')
    by_group = {
        group.label: {
            key: [value for run in group.runs if (value := run.final(key)) is not None]
            for key in group.runs[0].metrics
        }
        for group in groups
        if any(pattern.search(key) for key in group.runs[0].metrics)
    }
    keys = sorted({key for found in by_group.values() for key in found if pattern.search(key)})
    rows = [[key, *(mean_std(found.get(key, ())) for found in by_group.values())] for key in keys]
    return f'<h2>Branches</h2>\n{_BRANCHES}\n{_table(["", *by_group], rows)}' if rows else ''


def _describe(group: object) -> str:
    """The command of a group, its versions and settings."""
    run = group.runs[0]
    versions = ', '.join(f'{name} {value}' for name, value in run.versions.items())
    settings = '\n'.join(f'{key} = {value}' for key, value in run.settings.items())
    return (
        f'<h3>{escape(group.label)}</h3>\n<pre>{escape(run.command)}</pre>\n'
        f'<p class="note">seeds {group.seeds}; {escape(versions)}</p>\n'
        f'<details><summary>settings</summary><pre>{escape(settings)}</pre></details>'
    )


def _image(png: bytes, text: str) -> str:
    source = f'data:image/png;base64,{base64.b64encode(png).decode()}'
    return f'<div class="wide"><img alt="{escape(text)}" src="{source}"></div>'


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = ''.join(f'<th>{escape(cell)}</th>' for cell in header)
    body = ''.join(
        f'<tr>{"".join(f"<td>{escape(cell)}</td>" for cell in row)}</tr>\n' for row in rows
    )
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n'
        f'<tbody>{body}</tbody></table></div>'
    )


_COSTS = ('ECE (%)', 'parameters', 'multiply-adds (M)', 'ONNX (MB)', 'ONNX, an image (ms)')
_BRANCHES = (
    '<p class="note">A branch sees the feature map of one stage. <em>class</em> is its accuracy on '
    'the classes of images as they are, <em>joint</em> that on class and transform together, over '
    'all transforms of every test image. All branches are dropped at inference.</p>'
)
_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>What training gave</title>
<style>
body { margin: 0 auto; max-width: 64rem; padding: 1rem; color: #222; background: #fff;
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; }
h2 { font-size: 1.25rem; margin-top: 2rem; }
h3 { font-size: 1rem; }
.verdict { font-size: 1.15rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .35rem .8rem .35rem 0; border-bottom: 1px solid #ddd; text-align: right; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
img { max-width: 100%; }
pre { background: #f4f4f4; padding: .6rem; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: .85rem; }
.note { color: #555; font-size: .9rem; }
</style>
</head>
<body>
<h1>What training gave</h1>
<p class="verdict">$verdict</p>
$summary
<p class="note">Figures are those after the last epoch (iteration), on the test images of the
config; picking the best one would flatter, since it would be picked on the test images. With
several seeds: mean ± sample standard deviation. What follows ECE, the expected calibration error
of the first run (15 bins), is the cost at inference, without branches: the time is the median of
ONNX Runtime on this machine's CPU, one thread and one image at a time.</p>
$curves
$sections
$branches
<h2>How to repeat it</h2>
$runs
<ul class="note">$notes</ul>
<p class="note">$date</p>
</body>
</html>
""")

"""Runs side by side: mean and spread by config, gains, and the published figures."""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from hsakd.utils.errors import DataError
from hsakd.utils.networks import network_keys

from .names import ConfigName
from .runs import LeftOut, Run, shown_path
from .settings import changed_settings, settings_text, shipped_settings

#: What two configs have to share for the gain of one over the other to mean something.
_TRAINING = (
    'GPUs auto_scale_lr data_preprocessor optim_wrapper param_scheduler train_cfg train_dataloader '
    'val_dataloader'
).split()
#: Columns of the table that hold no figures.
TEXT_COLUMNS = ('config', 'changed', 'seeds', 'source')


@dataclass
class RunGroup:
    """Runs that differ by their seeds alone.

    Attributes:
        name: Of their config.
        runs: At least one, in the order of their seeds.
        changes: Settings in which they differ from the config file of that name and, where that is
            not known, from other runs of that name; None is a setting that they lack.
    """

    name: str
    runs: list[Run]
    changes: dict[str, object] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name of the config, and the settings that were changed."""
        return f'{self.name} {settings_text(self.changes)}'.strip()

    @property
    def seeds(self) -> str:
        """The seeds of the runs, as in '0, 1, 2'."""
        return ', '.join(str(run.seed) for run in self.runs)

    @property
    def published_as(self) -> str | None:
        """The kind of teacher of the published figures of this experiment; None if it has none.

        It has some if it is as its config file says, but for a frozen teacher.
        """
        if self.runs[0].frozen_teacher and set(self.changes) == {'model.teacher_ckpt'}:
            return 'frozen'
        return None if self.changes or shipped_settings(self.name) is None else 'joint'


@dataclass(eq=False)
class Row:
    """One network of one group of finished runs.

    Attributes:
        group: The runs.
        metric: Key of the figures, of the first network.
        network: Number of one of those that learn online; None of others.
        baseline: Row of the same network trained alone, in the same way.
    """

    group: RunGroup
    metric: str
    network: int | None = None
    baseline: 'Row | None' = None

    @property
    def key(self) -> str:
        """The metric as it is logged of this network."""
        return f'net{self.network}/{self.metric}' if self.network else self.metric

    @property
    def values(self) -> dict[int, float]:
        """The metric after the last epoch, by seed."""
        return {run.seed: run.final(self.key) for run in self.group.runs}

    @property
    def top5(self) -> list[float]:
        """Top-5 beside a metric that is top-1; may be empty."""
        found = [run.final(_top5(self.key)) for run in self.group.runs]
        return [value for value in found if value is not None]

    @property
    def best(self) -> list[float]:
        """The highest value of the metric over the validations of each run."""
        return [run.highest(self.key) for run in self.group.runs]

    @property
    def gain(self) -> tuple[float | None, float | None]:
        """Mean difference to the baseline, if there is one, and its spread; see :func:`gain`."""
        return gain(self.values, self.baseline.values) if self.baseline else (None, None)

    @property
    def published(self) -> list[float | None]:
        """The published figure of this very experiment, and the top-5."""
        entries = self._published(self._as_published), self._published(_top5(self._as_published))
        return [float(entry['value']) if entry else None for entry in entries]

    @property
    def source(self) -> str:
        """Where the published figure is from; empty if there is none."""
        return (self._published(self._as_published) or {}).get('source', '')

    @property
    def minutes(self) -> list[float]:
        """Wall-clock time of each run."""
        return [run.seconds / 60 for run in self.group.runs]

    @property
    def needed_minutes(self) -> float:
        """The same of the trainings that a run started from, and of those behind them; the mean."""
        seconds = [sum(origin.seconds for origin in run.origins) for run in self.group.runs]
        return float(np.mean(seconds)) / 60

    @property
    def _as_published(self) -> str:
        """The metric, of networks that are alike that of the first one, which stands for all."""
        name = ConfigName.parse(self.group.name)
        return self.key if name and len(name.networks) > 1 else self.metric

    def _published(self, metric: str) -> dict[str, str] | None:
        teacher = self.group.published_as
        return published_entry(self.group.name, metric, teacher == 'frozen') if teacher else None


@dataclass
class Results:
    """The rows and remarks that :func:`collect` makes of runs.

    Attributes:
        rows: In the order of data sets and config names.
        left_out: Runs that are in no row.
        notes: What else the reader should know.
    """

    rows: list[Row]
    left_out: list[LeftOut]
    notes: list[str]


def mean_std(values: Iterable[float], form: str = '.2f') -> str:
    """Mean and, of several values, their sample standard deviation; empty of none."""
    values = list(values)
    if not values:
        return ''
    text = f'{np.mean(values):{form}}'
    if len(values) > 1:
        text += f' ± {np.std(values, ddof=1):{form.lstrip("+")}}'
    return text


def gain(own: Mapping[int, float], other: Mapping[int, float]) -> tuple[float, float | None]:
    """Mean difference of two sets of runs, and its spread; the arguments are values by seed.

    Where the second have all seeds of the first it is taken seed by seed, and the spread is the
    sample standard deviation of these differences; else that of the difference of two single runs,
    the root of the sum of both variances. It is None where there is one run only.
    """
    if own.keys() <= other.keys():
        differences = [value - other[seed] for seed, value in own.items()]
        several = len(differences) > 1
        return float(np.mean(differences)), float(np.std(differences, ddof=1)) if several else None
    values = [list(own.values()), list(other.values())]
    spread = math.hypot(*(np.std(v, ddof=1) for v in values)) if min(map(len, values)) > 1 else None
    return float(np.mean(values[0]) - np.mean(values[1])), spread


@cache
def published_figures() -> dict[tuple[str, str, str], dict[str, str]]:
    """Rows of ``published.csv`` by config, metric and kind of teacher ('joint', 'frozen' or '')."""
    with (Path(__file__).parent / 'published.csv').open(newline='') as file:
        return {(r['config'], r['metric'], r['teacher']): r for r in csv.DictReader(file)}


def published_figure(config: str, metric: str, frozen_teacher: bool = False) -> float | None:
    """The published figure in percent for the experiment of a config, or None where there is none.

    The arguments are those of :func:`published_entry`.
    """
    entry = published_entry(config, metric, frozen_teacher)
    return float(entry['value']) if entry else None


def published_entry(
    config: str, metric: str, frozen_teacher: bool = False
) -> dict[str, str] | None:
    """The row of ``published.csv`` for the experiment of a config, or None where there is none.

    Args:
        config: Name of the config, without ``.py``.
        metric: 'accuracy/top1' or 'accuracy/top5'.
        frozen_teacher: The student's teacher was trained with a frozen backbone.
    """
    teachers = ['frozen'] if frozen_teacher else ['joint', '']
    rows = (published_figures().get((config, metric, teacher)) for teacher in teachers)
    return next(filter(None, rows), None)


def group_runs(runs: Iterable[Run]) -> list[RunGroup]:
    """Runs of the same config name and the same settings together."""
    groups: dict[tuple[str, str], RunGroup] = {}
    for run in runs:
        key = run.name, json.dumps(run.settings, sort_keys=True, default=str)
        groups.setdefault(key, RunGroup(run.name, [])).runs.append(run)
    for group in groups.values():
        group.runs.sort(key=lambda run: (run.seed, run.sessions[-1]))
        own, shipped = group.runs[0].settings, shipped_settings(group.name)
        alike = [g.runs[0].settings for g in groups.values() if g.name == group.name]
        others = alike if shipped is None else [shipped]
        changes = {key: v for other in others for key, v in changed_settings(own, other).items()}
        group.changes = dict(sorted(changes.items()))
    return sorted(groups.values(), key=lambda group: (group.name.split('_')[-1], group.label))


def collect(
    runs: Sequence[Run],
    left_out: Sequence[LeftOut],
    metric: str = 'accuracy/top1',
    alike: bool = True,
) -> Results:
    """One row a network and group of finished runs, with figures of a metric of validation.

    The published figure stands only beside runs that are as the config file of their name says, but
    for a frozen teacher. Runs that did not finish their schedule, and all but the newest of those
    that repeat a seed, are left out and listed.

    Args:
        runs: In any state.
        left_out: Listed with those that are left out here.
        metric: Key of the figures.
        alike: Only a network that was trained in the same way is a baseline; else one of the
            baseline's name is, and a note tells how its training differs.

    Raises:
        DataError: No run has the metric.
    """
    known = sorted({key for run in runs for key in run.metrics})
    ok = not runs or metric in known
    DataError.check(ok, '--metric', ', '.join(known) or 'a metric of a validation', repr(metric))
    left_out, counted = list(left_out), []
    for run in runs:
        if not run.finished:
            left_out.append(LeftOut.of(run, run.progress))
        elif run.final(metric) is None:
            left_out.append(LeftOut.of(run, f'{metric} was not measured at the end'))
        else:
            counted.append(run)
    groups = group_runs(counted)
    for group in groups:
        newest = {run.seed: run for run in group.runs}  # older first
        left_out += [
            LeftOut.of(
                run,
                f'seed {run.seed} was run again, and {shown_path(newest[run.seed].session)} counts',
            )
            for run in group.runs
            if run is not newest[run.seed]
        ]
        group.runs = list(newest.values())
    rows = [row for group in groups for row in _rows(group, metric)]
    return Results(rows, left_out, _find_baselines(rows, alike))


def _rows(group: RunGroup, metric: str) -> list[Row]:
    pattern = re.compile(rf'net(\d+)/{re.escape(metric)}')
    found = filter(None, map(pattern.fullmatch, group.runs[0].metrics))
    networks = sorted(int(match[1]) for match in found)
    return [Row(group, metric, network) for network in networks or [None]]


def _find_baselines(rows: Sequence[Row], only_alike: bool) -> list[str]:
    """Give rows their baselines, and tell of those that were trained in another way."""
    notes = []
    for row in rows:
        own_name = ConfigName.parse(row.group.name)
        name = own_name and own_name.baseline(row.network)
        others = [other for other in rows if other.group.name == name and other.network is None]
        alike = [other for other in others if not differences(row, other)]
        if len(alike) == 1:
            row.baseline = alike[0]
        elif alike:
            notes.append(
                f'no gain of {row.group.label}: {len(alike)} kinds of runs of {name} are trained '
                'in the same way'
            )
        elif others:
            keys = ', '.join(differences(row, others[0]))
            if only_alike or len(others) > 1:
                notes.append(
                    f'no gain of {row.group.label}: no run of {name} is of the same network '
                    f'trained in the same way ({keys})'
                )
            else:
                row.baseline = others[0]
                label = row.group.label
                notes.append(f'{label} and {name} are not trained in the same way ({keys})')
    return notes


def differences(row: Row, other: Row) -> list[str]:
    """Settings in which the training of two rows, or what they train, differ."""
    own, others = _settings_of_training(row), _settings_of_training(other)
    return sorted(key for key in {*own, *others} if own.get(key) != others.get(key))


def _settings_of_training(row: Row) -> dict[str, object]:
    settings = row.group.runs[0].settings
    found = {key: value for key, value in settings.items() if key.split('.')[0] in _TRAINING}
    key = network_keys(settings)[row.network or 0]
    parts = tuple(f'{key}.{part}.' for part in ('backbone', 'neck', 'head'))
    network = {k: value for k, value in settings.items() if k.startswith(parts)}
    return found | {f'model{k.removeprefix(key)}': value for k, value in network.items()}


def table(results: Results, best: bool = False) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the table that people read; columns without any content are left out.

    Args:
        results: Of :func:`collect`.
        best: Add the highest value of the metric over the validations.
    """
    lines = []
    for row in results.rows:
        group, (change, spread) = row.group, row.gain
        published, published_top5 = row.published
        frozen = ' (frozen teacher)' if group.published_as == 'frozen' and published else ''
        lines.append(
            {
                'config': group.name + ('' if row.network is None else f', network {row.network}'),
                'changed': settings_text(group.changes),
                'runs': str(len(group.runs)),
                'seeds': group.seeds,
                metric_title(row.metric): mean_std(row.values.values()),
                'top-5': mean_std(row.top5),
                'best epoch': mean_std(row.best) if best else '',
                'gain': _figure(change, '+.2f') + (f' ± {spread:.2f}' if spread else ''),
                'published': _figure(published) + frozen,
                'published, top-5': _figure(published_top5),
                'source': row.source,
                'minutes': f'{np.mean(row.minutes):.1f}',
                'needed minutes': _figure(row.needed_minutes or None, '.1f'),
            }
        )
    header = [key for key in (lines[0] if lines else ()) if any(line[key] for line in lines)]
    return header, [[line[key] for key in header] for line in lines]


def to_markdown(results: Results, best: bool = False) -> str:
    """The table, what its columns mean, and the runs that are not in it."""
    header, lines = table(results, best)
    text = [markdown_table(header, lines, TEXT_COLUMNS)] if lines else []
    text.append(_legend(header) if header else 'No run finished its schedule.')
    if results.left_out:
        text.append('\n'.join(['Not in the table:\n', *(f'- {run}' for run in results.left_out)]))
    if results.notes:
        text.append('\n'.join(f'- {note}' for note in results.notes))
    return '\n\n'.join(text) + '\n'


def markdown_table(
    header: Sequence[str], lines: Sequence[Sequence[str]], text_columns: Sequence[str] = ()
) -> str:
    """A table of figures, in Markdown; those in ``text_columns`` hold text."""
    rule = ['---' if title in text_columns else '---:' for title in header]
    cells = [[cell.replace('|', r'\|') for cell in line] for line in [header, rule, *lines]]
    return '\n'.join(f'| {" | ".join(line)} |' for line in cells)


def to_csv(results: Results, best: bool = False) -> str:
    """One line a row and one a run that is not in any, whose ``note`` says why; full precision."""
    lines = [
        {
            'config': row.group.name,
            'network': row.network,
            'changed': settings_text(row.group.changes),
            'runs': len(row.group.runs),
            'seeds': row.group.seeds,
            'metric': row.metric,
            **_mean_and_std('', list(row.values.values())),
            **_mean_and_std('top5_', row.top5),
            **(_mean_and_std('best_', row.best) if best else {}),
            'gain': row.gain[0],
            'gain_std': row.gain[1],
            'baseline': row.baseline and row.baseline.group.name,
            'published': row.published[0],
            'published_top5': row.published[1],
            'source': row.source,
            **_mean_and_std('minutes_', row.minutes),
            'needed_minutes': row.needed_minutes,
            'note': None,
        }
        for row in results.rows
    ]
    lines += [
        {'config': run.name, 'runs': 0, 'seeds': run.seed, 'note': str(run)}
        for run in results.left_out
    ]
    buffer = io.StringIO()
    columns = list(lines[0]) if results.rows else ['config', 'runs', 'seeds', 'note']
    writer = csv.DictWriter(buffer, columns, lineterminator='\n')
    writer.writeheader()
    writer.writerows(lines)
    return buffer.getvalue()


def _legend(header: Sequence[str]) -> str:
    meanings = {
        'changed': '**changed**: settings other than those of the config file of that name.',
        'best epoch': '**best epoch**: the highest over all validations, chosen on the test images '
        'and so too high; no figure to report.',
        'gain': '**gain**: over the same network trained alone, on the same data and schedule; '
        'seed by seed where that has all seeds of the row, else its spread is that of the '
        'difference of two single runs.',
        'published': '**published**: the figure of the source, beside runs of unchanged settings '
        'only; **alone**, where other sources differ, is what it gives for the student alone.',
        'minutes': '**minutes**: wall-clock time of a run, the mean.',
        'needed minutes': '**needed minutes**: the same of what it started from, such as its '
        'teacher, and of what that started from.',
    }
    figures = (
        'Values after the last epoch (iteration) of the schedule; accuracies in percent; mean ± '
        'sample standard deviation over seeds; of one run the value alone.'
    )
    return ' '.join([figures, *(text for title, text in meanings.items() if title in header)])


def metric_title(metric: str) -> str:
    """What people call it."""
    return 'top-1' if metric == 'accuracy/top1' else metric


def _top5(metric: str) -> str:
    return f'{metric.removesuffix("top1")}top5' if metric.endswith('/top1') else ''


def _figure(value: float | None, form: str = '.2f') -> str:
    return '' if value is None else f'{value:{form}}'


def _mean_and_std(prefix: str, values: Sequence[float]) -> dict[str, float | None]:
    return {
        f'{prefix}mean': float(np.mean(values)) if values else None,
        f'{prefix}std': float(np.std(values, ddof=1)) if len(values) > 1 else None,
    }

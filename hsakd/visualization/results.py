"""Runs side by side: mean and spread by config, gains, and the published figures."""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hsakd.utils.errors import DataError
from hsakd.utils.published import published_figure

from .comparison import mean_std
from .work_dirs import LeftOut, LoggedRun, changed_settings, settings_text, shown_path

#: What two configs have to share for the gain of one over the other to mean something.
_TRAINING = (
    'GPUs',
    'auto_scale_lr',
    'data_preprocessor',
    'optim_wrapper',
    'param_scheduler',
    'train_cfg',
    'train_dataloader',
    'val_dataloader',
)

#: Columns of the table that hold no figures.
TEXT_COLUMNS = ('config', 'changed', 'seeds')


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
    runs: list[LoggedRun]
    changes: dict[str, object] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name and changes."""
        return f'{self.name} {settings_text(self.changes)}'.strip()

    @property
    def seeds(self) -> str:
        """As in '0, 1, 2'."""
        return ', '.join('?' if run.seed is None else str(run.seed) for run in self.runs)

    def finals(self, key: str) -> list[float]:
        """``key`` of the last validation of each run that has it."""
        return [value for run in self.runs if (value := run.final(key)) is not None]


@dataclass
class Row:
    """One network of one group of finished runs.

    Attributes:
        group: The runs.
        metric: Key of the figures.
        network: Number of one of those that learn online; None of others.
        values: The metric after the last epoch, by run.
        top5: Top-5 beside a metric that is top-1; may be empty.
        best: The highest value of the metric over the validations of each run.
        baseline: Row of the same network trained alone, in the same way.
        published: The paper's figure of this very experiment.
        published_top5: The paper's top-5 of it.
    """

    group: RunGroup
    metric: str
    network: int | None
    values: list[float]
    top5: list[float]
    best: list[float]
    baseline: 'Row | None' = None
    published: float | None = None
    published_top5: float | None = None

    @property
    def gain(self) -> tuple[float, float | None] | None:
        """Difference of the means to the baseline, and its spread.

        The spread is that of the difference of two single runs, the root of the sum of both
        variances; None where one of the two has one run only.
        """
        if self.baseline is None:
            return None
        pair = self.values, self.baseline.values
        gain = float(np.mean(pair[0]) - np.mean(pair[1]))
        if min(map(len, pair)) < 2:
            return gain, None
        return gain, math.hypot(*(np.std(values, ddof=1) for values in pair))


@dataclass
class Results:
    """What :func:`collect` found.

    Attributes:
        rows: In the order of data sets and config names.
        left_out: Runs that are in no row.
        notes: What else the reader should know.
    """

    rows: list[Row]
    left_out: list[LeftOut]
    notes: list[str]


def group_runs(
    runs: Iterable[LoggedRun], shipped: Mapping[str, Mapping[str, object]]
) -> list[RunGroup]:
    """Runs of the same config name and the same settings together.

    Args:
        runs: Of :func:`~hsakd.visualization.work_dirs.find_runs`.
        shipped: Settings of the config files, by name, as far as known.
    """
    groups: dict[tuple[str, str], RunGroup] = {}
    for run in runs:
        key = run.name, json.dumps(run.settings, sort_keys=True, default=str)
        groups.setdefault(key, RunGroup(run.name, [])).runs.append(run)
    for group in groups.values():
        group.runs.sort(key=lambda run: (run.seed is None, run.seed or 0, run.started))
        own = group.runs[0].settings
        if group.name in shipped:
            others = [shipped[group.name]]
        else:
            others = [g.runs[0].settings for g in groups.values() if g.name == group.name]
        changes = {key: v for other in others for key, v in changed_settings(own, other).items()}
        group.changes = dict(sorted(changes.items()))
    return sorted(groups.values(), key=lambda group: (group.name.split('_')[-1], group.label))


def collect(
    runs: Sequence[LoggedRun],
    left_out: Sequence[LeftOut],
    shipped: Mapping[str, Mapping[str, object]],
    metric: str = 'accuracy/top1',
) -> Results:
    """One row a network and group of finished runs.

    Runs that did not finish their schedule, and all but the newest of those that repeat a seed, are
    left out and listed.

    Args:
        runs: Of :func:`~hsakd.visualization.work_dirs.find_runs`.
        left_out: Of the same.
        shipped: As of :func:`group_runs`. The paper's figure stands only beside runs that are as
            the config file says, but for a frozen teacher.
        metric: Key of a validation's figures.

    Raises:
        DataError: No run has such a metric.
    """
    if runs and not any(metric in run.keys for run in runs):
        known = sorted({key for run in runs for key in run.keys if '/' in key})
        raise DataError(
            f'--metric={metric!r}: no run has it; accepted are {", ".join(known) or "none here"}'
        )
    left_out, counted = list(left_out), []
    for run in runs:
        if not run.finished:
            left_out.append(LeftOut(run.name, run.folder / run.started, run.progress, run.seed))
        elif run.final(metric) is None:
            reason = f'{metric} was not measured at the end'
            left_out.append(LeftOut(run.name, run.folder / run.started, reason, run.seed))
        else:
            counted.append(run)
    groups = group_runs(counted, shipped)
    for group in groups:
        left_out += _drop_repeated_seeds(group)
    rows = [row for group in groups for row in _rows(group, metric, shipped)]
    return Results(rows, left_out, _find_baselines(rows))


def _drop_repeated_seeds(group: RunGroup) -> list[LeftOut]:
    """Keep the newest run of each seed."""
    newest: dict[object, LoggedRun] = {}
    for run in group.runs:  # older first
        newest[id(run) if run.seed is None else run.seed] = run
    kept = list(newest.values())
    repeated = [
        LeftOut(
            run.name,
            run.folder / run.started,
            f'seed {run.seed} was run again, and '
            f'{shown_path(newest[run.seed].folder / newest[run.seed].started)} counts',
            run.seed,
        )
        for run in group.runs
        if run not in kept
    ]
    group.runs = kept
    return repeated


def _rows(group: RunGroup, metric: str, shipped: Mapping[str, Mapping[str, object]]) -> list[Row]:
    first = group.runs[0]
    frozen = first.frozen_teacher and set(group.changes) == {'model.teacher_ckpt'}
    as_shipped = group.name in shipped and (frozen or not group.changes)
    top5 = _top5(metric)
    published = {
        key: published_figure(group.name, key, frozen) if as_shipped and key else None
        for key in (metric, top5)
    }
    indices = sorted(
        int(found[1])
        for key in first.keys
        if (found := re.fullmatch(rf'net(\d+)/{re.escape(metric)}', key))
    )
    rows = []
    for index in indices or [None]:
        key = metric if index is None else f'net{index}/{metric}'
        top5_values = group.finals(top5 if not index else f'net{index}/{top5}') if top5 else []
        rows.append(
            Row(
                group,
                key,
                index,
                group.finals(key),
                top5_values,
                [max(run.curve(key).values()) for run in group.runs],
                published=published[metric],
                published_top5=published[top5],
            )
        )
    return rows


def _find_baselines(rows: Sequence[Row]) -> list[str]:
    """Give rows their baselines, and tell of those that were trained in another way."""
    notes = []
    for row in rows:
        name = _baseline_name(row)
        others = [other for other in rows if other.group.name == name and other.network is None]
        alike = [other for other in others if not _differences(row, other)]
        if len(alike) == 1:
            row.baseline = alike[0]
        elif alike:
            notes.append(
                f'no gain of {row.group.label}: {len(alike)} kinds of runs of {name} are trained '
                'in the same way'
            )
        elif others:
            keys = ', '.join(_differences(row, others[0]))
            notes.append(
                f'no gain of {row.group.label}: no run of {name} is of the same network trained in '
                f'the same way ({keys})'
            )
    return notes


def _baseline_name(row: Row) -> str | None:
    """Name of the config that trains the same network alone, for as long on the same data.

    Config names are METHOD_[TEACHER_]STUDENT_SCHEDULE_DATASET, those of plain networks without a
    method, and those of methods for several networks with the name of each or one for all.
    """
    parts = row.group.name.split('_')
    networks = parts[1:-2]
    if not networks:
        return None
    index = -1 if row.network is None or len(networks) == 1 else row.network
    return '_'.join([networks[index], *parts[-2:]]) if index < len(networks) else None


def _differences(row: Row, other: Row) -> list[str]:
    """Settings in which the training of two rows, or what they train, differ."""
    own, others = _settings_of_training(row), _settings_of_training(other)
    return sorted(key for key in {*own, *others} if own.get(key) != others.get(key))


def _settings_of_training(row: Row) -> dict[str, object]:
    settings = row.group.runs[0].settings
    found = {key: value for key, value in settings.items() if key.split('.')[0] in _TRAINING}
    for prefix in ('model.student.', f'model.networks.{row.network or 0}.', 'model.'):
        parts = tuple(f'{prefix}{part}.' for part in ('backbone', 'neck', 'head'))
        network = {key: value for key, value in settings.items() if key.startswith(parts)}
        if network:
            return found | {f'model.{k.removeprefix(prefix)}': v for k, v in network.items()}
    return found


def table(results: Results, best: bool = False) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the table that people read; columns without any content are left out.

    Args:
        results: Of :func:`collect`.
        best: Add the highest value of the metric over the validations.
    """
    lines = []
    for row in results.rows:
        group, gain = row.group, row.gain
        name = group.name if row.network is None else f'{group.name}, network {row.network}'
        line = {
            'config': name,
            'changed': settings_text(group.changes),
            'runs': str(len(group.runs)),
            'seeds': group.seeds,
            _title(row.metric): mean_std(row.values),
            'top-5': mean_std(row.top5) if row.top5 else '',
            'best epoch': mean_std(row.best) if best else '',
            'gain': '' if gain is None else _plus_minus(*gain),
            'paper': _figure(row.published),
            'paper, top-5': _figure(row.published_top5),
        }
        if row.published is not None and group.runs[0].frozen_teacher:
            line['paper'] += ' (frozen teacher)'
        lines.append(line)
    header = [key for key in (lines[0] if lines else ()) if any(line[key] for line in lines)]
    return header, [[line[key] for key in header] for line in lines]


def remarks(results: Results, best: bool = False) -> str:
    """What the columns of the table mean, and the runs that are not in it; Markdown."""
    header, _ = table(results, best)
    text = [_legend(header) if header else 'No run finished its schedule.']
    if results.left_out:
        text.append('\n'.join(['Not in the table:\n', *(f'- {run}' for run in results.left_out)]))
    if results.notes:
        text.append('\n'.join(f'- {note}' for note in results.notes))
    return '\n\n'.join(text) + '\n'


def to_markdown(results: Results, best: bool = False) -> str:
    """The table and the remarks."""
    header, lines = table(results, best)
    if not lines:
        return remarks(results, best)
    rule = ['---' if title in TEXT_COLUMNS else '---:' for title in header]
    cells = [[cell.replace('|', r'\|') for cell in line] for line in [header, rule, *lines]]
    drawn = '\n'.join(f'| {" | ".join(line)} |' for line in cells)
    return f'{drawn}\n\n{remarks(results, best)}'


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
            **_mean_and_std('', row.values),
            **_mean_and_std('top5_', row.top5),
            **(_mean_and_std('best_', row.best) if best else {}),
            'gain': row.gain and row.gain[0],
            'gain_std': row.gain and row.gain[1],
            'baseline': row.baseline and row.baseline.group.name,
            'published': row.published,
            'published_top5': row.published_top5,
            'source': 'paper' if row.published is not None else None,
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
        'gain': '**gain**: over the same network trained alone, on the same data and schedule; its '
        'spread is that of the difference of two single runs.',
        'paper': "**paper**: the paper's figure, beside runs of unchanged settings only.",
    }
    figures = (
        'Values after the last epoch (iteration) of the schedule; accuracies in percent; mean ± '
        'sample standard deviation over seeds; of one run the value alone.'
    )
    return ' '.join([figures, *(text for title, text in meanings.items() if title in header)])


def _title(metric: str) -> str:
    """Of the column; that of networks that learn online is the same."""
    metric = re.sub(r'^net\d+/', '', metric)
    return 'top-1' if metric == 'accuracy/top1' else metric


def _top5(metric: str) -> str | None:
    return f'{metric.removesuffix("top1")}top5' if metric.endswith('/top1') else None


def _figure(value: float | None) -> str:
    return '' if value is None else f'{value:.2f}'


def _plus_minus(value: float, spread: float | None) -> str:
    return f'{value:+.2f}' + ('' if spread is None else f' ± {spread:.2f}')


def _mean_and_std(prefix: str, values: Sequence[float]) -> dict[str, float | None]:
    return {
        f'{prefix}mean': float(np.mean(values)) if values else None,
        f'{prefix}std': float(np.std(values, ddof=1)) if len(values) > 1 else None,
    }

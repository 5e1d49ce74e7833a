"""A comparison as a table, a sentence, and one self-contained HTML page."""

import base64
from collections.abc import Sequence
from html import escape
from string import Template

import numpy as np

from .comparison import Comparison, Run, mean_std
from .curves import COLOURS

SUMMARY_HEADER = ('network', 'parameters', 'top-1 (%)', 'gain', 'time (s)')


def summary_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """One row a network, under ``SUMMARY_HEADER``; of several seeds mean ± standard deviation."""
    rows = []
    for label, runs in comparison:
        gain = mean_std(comparison.gains, '+.2f') if runs is comparison.distilled else ''
        rows.append(
            (
                label,
                f'{runs[0].parameters:,}',
                mean_std([run.top1 for run in runs]),
                gain,
                f'{np.mean([run.seconds for run in runs]):.0f}',
            )
        )
    return rows


def verdict(comparison: Comparison) -> str:
    """What distillation gained or cost, in a sentence or two."""
    gain = round(float(np.mean(comparison.gains)), 2)
    if gain > 0:
        change = f'Distillation gained {gain:.2f} points'
    elif gain < 0:
        change = f'Distillation cost {-gain:.2f} points'
    else:
        change = 'Distillation changed nothing'
    teacher, plain, distilled = (np.mean([run.top1 for run in runs]) for _, runs in comparison)
    ratio = comparison.teacher[0].parameters / comparison.plain[0].parameters
    scores = (
        f'the distilled student reads {distilled:.2f} % of the {len(comparison.labels):,} test '
        f'digits right, the plain student, the same network, {plain:.2f} %, and the teacher, '
        f'{ratio:.1f} times as large, {teacher:.2f} %.'
    )
    seeds = len(comparison.seeds)
    if seeds > 1:
        helped = int((comparison.gains > 0).sum())
        spread = np.std(comparison.gains, ddof=1)
        return (
            f'{change} (± {spread:.2f}) on average and helped with {helped} of {seeds} seeds: '
            f'{scores}'
        )
    gained, lost = map(len, comparison.only_right())
    return f'{change}: {scores} Right only with distillation: {gained}; only without: {lost}.'


def render_report(
    comparison: Comparison, picture: bytes, facts: Sequence[tuple[str, str]]
) -> str:
    """The page, with everything it needs inside.

    Args:
        comparison: What was trained.
        picture: PNG of :func:`draw_comparison`.
        facts: Names and values to note: versions, date, hardware.
    """
    summary = [
        (f'<span style="background:{colour}"></span>{escape(row[0])}', *row[1:])
        for row, colour in zip(summary_rows(comparison), COLOURS, strict=True)
    ]
    commands = [runs[0].command for _, runs in comparison]
    seeds = ', '.join(map(str, comparison.seeds))
    several = len(comparison.seeds) > 1
    return _PAGE.substitute(
        verdict=escape(verdict(comparison)),
        summary=_table(SUMMARY_HEADER, summary),
        spread='± is the sample standard deviation over seeds. ' if several else '',
        picture=base64.b64encode(picture).decode(),
        lines='Lines are means over seeds, bands reach from the lowest to the highest. '
        if several
        else '',
        branches=_table(
            (
                'branch',
                'teacher: class (%)',
                'teacher: joint (%)',
                'student: class (%)',
                'student: joint (%)',
            ),
            _branch_rows(comparison.teacher, comparison.distilled),
        ),
        commands='\n'.join(f'<pre>{escape(command)}</pre>' for command in commands),
        facts=_table(
            (),
            [
                (
                    'data',
                    f"scikit-learn's digits, 8x8 pixels: {comparison.train_size:,} real scans to "
                    f'train, {len(comparison.labels):,} to test',
                ),
                ('seeds' if several else 'seed', seeds),
                *((escape(name), escape(value)) for name, value in facts),
            ],
        ),
    )


def _branch_rows(teacher: Sequence[Run], student: Sequence[Run]) -> list[tuple[str, ...]]:
    """Accuracies of every branch that both have."""
    branches = sorted(
        key.split('/')[0] for key in teacher[0].history[-1] if key.endswith('/class_top1')
    )
    return [
        (
            branch.replace('_', ' '),
            *(
                mean_std([run.last(f'{branch}/{what}_top1') for run in runs])
                for runs in (teacher, student)
                for what in ('class', 'joint')
            ),
        )
        for branch in branches
    ]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML already."""
    head = ''.join(f'<th>{escape(cell)}</th>' for cell in header)
    body = ''.join(
        '<tr>' + ''.join(f'<td>{cell}</td>' for cell in row) + '</tr>\n' for row in rows
    )
    return (
        '<div class="wide"><table>'
        + (f'<thead><tr>{head}</tr></thead>\n' if header else '')
        + f'<tbody>{body}</tbody></table></div>'
    )


_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>What distillation gained</title>
<style>
body { margin: 0 auto; max-width: 60rem; padding: 1rem; color: #222; background: #fff;
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; }
h2 { font-size: 1.15rem; margin-top: 2rem; }
.verdict { font-size: 1.15rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem .35rem 0; border-bottom: 1px solid #ddd; text-align: right;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.facts { margin-top: 1.5rem; }
.facts td { text-align: left; vertical-align: top; white-space: normal; }
td span { display: inline-block; width: .8em; height: .8em; margin-right: .5em; }
img { width: 100%; min-width: 45rem; }
pre { background: #f4f4f4; padding: .6rem; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: .85rem; }
.note { color: #555; font-size: .9rem; }
</style>
</head>
<body>
<h1>What distillation gained</h1>
<p class="verdict">$verdict</p>
$summary
<p class="note">Top-1 is the accuracy on test images at the last epoch; picking the best epoch would
flatter, since it would be picked on the test images. Gain is in points over the plain student.
Parameters are those at inference. ${spread}Time is that of the command, start-up
and evaluation included.</p>
<div class="wide"><img alt="Test accuracy and training loss by epoch, and test digits that only
the distilled student reads right" src="data:image/png;base64,$picture"></div>
<p class="note">${lines}The loss shown is the one term that all three minimise; branches and
distillation add terms of their own. The digits are test images that the plain student gets wrong
and the distilled one right; the counts above them say how often it is so, and the other way
round.</p>
<h2>The auxiliary branches</h2>
<p>Each branch sees the feature map of one stage and names digit and rotation together, one of
10 &times; 4 joint classes. <em>Joint</em> accuracy (<code>branch_l/joint_top1</code> in the logs)
counts both, on all four rotations of every test image; <em>class</em> accuracy
(<code>branch_l/class_top1</code>) counts the digit alone, on upright images. The student's branches
learn from the teacher's. All are dropped at inference and cost nothing there.</p>
$branches
<h2>How to repeat it</h2>
$commands
<div class="facts">$facts</div>
</body>
</html>
""")

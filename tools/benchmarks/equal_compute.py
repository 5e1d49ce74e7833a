#!/usr/bin/env python
"""Accuracy over the time of training, by what a step costs rather than what the clock showed.

Trainings that ran beside others, or at other times, took other times than they cost. Here the
minutes of a training are its iterations times the median step of method_cost.py --out FILE.json,
which times the steps of all methods in turns. What a run started from, its teacher and what that
started from, is told beside it where their records lie in the folders and the file has their steps.
Of networks that learn online the first one counts.
"""

import json
import math
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from hsakd.results.names import ConfigName  # noqa: E402
from hsakd.results.runs import Run, find_runs  # noqa: E402
from hsakd.results.tables import Row, collect, mean_std  # noqa: E402
from hsakd.utils.cli import (  # noqa: E402
    add_work_dirs,
    check_out_file,
    print_markdown,
    run_tool,
    tool_parser,
)
from hsakd.utils.errors import ConfigError  # noqa: E402
from hsakd.utils.files import write_files  # noqa: E402
from hsakd.visualization.costs import draw_costs  # noqa: E402

COLUMNS = (
    'method',
    'epochs',
    'seeds',
    'top-1',
    'gain over plain',
    'time of a step / plain',
    'min',
    'min of what it starts from',
)


def main(argv: list[str] | None = None) -> None:
    """Read the steps and the runs; a table and a picture."""
    parser = tool_parser(__doc__)
    add_work_dirs(parser)
    parser.add_argument('--cost', required=True, type=Path, metavar='FILE.json', help='its steps')
    parser.add_argument('--iterations', type=int, required=True, help='of an epoch')
    parser.add_argument('--table', metavar='FILE.md', help='write the table as Markdown')
    parser.add_argument('--plot', metavar='FILE.png', help='draw it')
    args = parser.parse_args(argv)
    check_out_file(args.table, force=True)
    check_out_file(args.plot, force=True)
    steps = read_steps(args.cost)
    runs, left_out = find_runs(args.work_dirs)
    found = collect(runs, left_out)
    records = {run.name: run for run in runs}
    teachers = {
        network_of(name)
        for run in runs
        for name in started_from(run)
        if network_of(name) != network_of(run.name)
    }
    students = [row for row in found.rows if network_of(row.group.name) not in teachers]
    shown = [row for row in students if not row.network]
    rows = [row for row in shown if key_of(row.group.name, steps)]
    known = ', '.join(sorted({method for method, _ in steps}))
    ConfigError.check(rows, str(args.cost), f'runs of one of {known}', 'none in the folders')
    costs = [steps[key_of(row.group.name, steps)] for row in rows]

    def minutes_of(run: Run) -> float:
        step, _ = steps.get(key_of(run.name, steps), (math.nan, 0))
        return args.iterations * run.length * step / 60_000

    def before(run: Run) -> float:
        """Minutes of what a run started from, and of what that started from; NaN if unknown."""
        origins = map(records.get, started_from(run))
        return sum(minutes_of(o) + before(o) if o else math.nan for o in origins)

    minutes = [minutes_of(row.group.runs[0]) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: mean(rows[i]), reverse=True)
    lines = [COLUMNS, ['---'] * len(COLUMNS)]
    lines += [cells(rows[i], costs[i][1], minutes[i], before(rows[i].group.runs[0])) for i in order]
    text = ''.join(f'| {" | ".join(line)} |\n' for line in lines)
    print_markdown(text)
    if without := sorted(row.group.name for row in shown if row not in rows):
        print(f'Not shown, since {args.cost} has no step of theirs: {", ".join(without)}')
    files = {args.table: text.encode()} if args.table else {}
    if args.plot:
        files[args.plot] = draw_costs(rows, minutes)
    write_files({Path(file): content for file, content in files.items()}, force=True)


def read_steps(file: Path) -> dict[tuple[str, str], tuple[float, float]]:
    """Milliseconds of a step, and its ratio to the plain student's, by method and networks."""
    try:
        rows = json.loads(file.read_text())['rows']
        time = next(key for key in rows[0] if key.startswith('ms a step'))
        return {
            (row['method'], row['networks']): (row[time][1], row['time / alone'][1]) for row in rows
        }
    except (OSError, ValueError, LookupError, TypeError, StopIteration) as error:
        what = 'the --out of tools/benchmarks/method_cost.py'
        raise ConfigError.expected(f'--cost {file}', what, repr(error)) from error


def started_from(run: Run) -> list[str]:
    """Names of the configs of the trainings whose checkpoints a run loads first."""
    checkpoints = [value for key, value in run.settings.items() if key.endswith('_ckpt')]
    return [str(checkpoint).partition('/')[0] for checkpoint in checkpoints]


def network_of(name: str) -> str:
    """What a config of that name trains: of several networks the last."""
    parsed = ConfigName.parse(name)
    return parsed.networks[-1] if parsed else name


def key_of(name: str, steps: dict[tuple[str, str], object]) -> tuple[str, str] | None:
    """The step of a config, by its name: that of method and networks; None if there is none."""
    if (parsed := ConfigName.parse(name)) is None:
        return None
    # Of a student, a step costs the same from whichever teacher it learns.
    methods = parsed.method or 'alone', parsed.method.replace('offline-frozen', 'offline')
    keys = [(method, ' -> '.join(parsed.networks)) for method in methods]
    return next((key for key in keys if key in steps), None)


def mean(row: Row) -> float:
    return sum(row.values.values()) / len(row.values)


def cells(row: Row, ratio: float, minutes: float, before: float) -> tuple[str, ...]:
    """A line of the table."""
    name, (gain, spread) = ConfigName.parse(row.group.name), row.gain
    shown = '' if gain is None else f'{gain:+.2f}' + (f' ± {spread:.2f}' if spread else '')
    return (
        name.method or 'plain',
        str(row.group.runs[0].length),
        ', '.join(map(str, sorted(row.values))),
        mean_std(row.values.values()),
        shown,
        f'{ratio:.2f}',
        f'{minutes:.1f}',
        '' if math.isnan(before) else f'{before:.1f}',
    )


if __name__ == '__main__':
    run_tool(main)

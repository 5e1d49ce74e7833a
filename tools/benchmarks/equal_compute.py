#!/usr/bin/env python
"""Accuracy over the time of training, by what a step costs rather than what the clock showed.

Trainings that ran beside others, or at other times, took other times than they cost. Here the
minutes of a training are its iterations times the median step of method_cost.py --out FILE.json,
which times the steps of all methods in turns. Of networks that learn online the first one counts.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from hsakd.results.names import ConfigName  # noqa: E402
from hsakd.results.runs import find_runs  # noqa: E402
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

COLUMNS = ('method', 'epochs', 'seeds', 'top-1', 'gain over plain', 'time of a step / plain', 'min')


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
    found = collect(*find_runs(args.work_dirs))
    rows, costs = [], []
    for row in found.rows:
        name = ConfigName.parse(row.group.name)
        # A step costs the same whichever teacher was trained before.
        method = (name.method or 'alone').removesuffix('-frozen') if name else None
        key = (method, ' -> '.join(name.networks)) if name else None
        if key in steps and not row.network:
            rows.append(row)
            costs.append(steps[key])
    known = ', '.join(sorted({method for method, _ in steps}))
    ConfigError.check(rows, str(args.cost), f'runs of one of {known}', 'none in the folders')
    minutes = [
        args.iterations * row.group.runs[0].length * step / 60_000
        for row, (step, _) in zip(rows, costs, strict=True)
    ]
    order = sorted(range(len(rows)), key=lambda i: mean(rows[i]), reverse=True)
    lines = [COLUMNS, ['---'] * len(COLUMNS)]
    lines += [cells(rows[i], costs[i][1], minutes[i]) for i in order]
    text = ''.join(f'| {" | ".join(line)} |\n' for line in lines)
    print_markdown(text)
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


def mean(row: Row) -> float:
    return sum(row.values.values()) / len(row.values)


def cells(row: Row, ratio: float, minutes: float) -> tuple[str, ...]:
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
    )


if __name__ == '__main__':
    run_tool(main)

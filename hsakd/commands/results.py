"""Make the table of results of work dirs: by config, mean and spread over seeds.

Runs that did not finish their schedule are listed and not averaged, and runs of one config whose
settings differ have rows of their own.
"""

import argparse
from pathlib import Path

from hsakd.utils.cli import add_work_dirs, check_out_file, print_markdown, tool_parser


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Runs, and where to write."""
    parser = tool_parser(__doc__)
    add_work_dirs(parser)
    parser.add_argument('--out', metavar='FILE.md', help='write the table as Markdown')
    parser.add_argument('--csv', metavar='FILE.csv', help='write it as CSV, in full precision')
    parser.add_argument(
        '--metric', default='accuracy/top1', help='key of the figures (default: %(default)s)'
    )
    parser.add_argument(
        '--best',
        action='store_true',
        help='add the best epoch of each run; chosen on the test images, it is no fair figure',
    )
    archive = 'copy records and curves of the runs in the table there, for tables and pictures'
    parser.add_argument('--archive', type=Path, metavar='DIR', help=archive)
    parser.add_argument('--force', action='store_true', help='replace files')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Find, group, compare, and write."""
    args = parse_args(argv)
    check_out_file(args.out, force=True)
    check_out_file(args.csv, force=True, option='--csv')
    from hsakd.results.runs import archived, find_runs
    from hsakd.results.tables import collect, to_csv, to_markdown
    from hsakd.utils.files import write_files

    results = collect(*find_runs(args.work_dirs), args.metric)
    text = to_markdown(results, args.best)
    files = {}
    if args.out:
        files[args.out] = text.encode()
    if args.csv:
        files[args.csv] = to_csv(results, args.best).encode()
    if args.archive:
        runs = {id(run): run for row in results.rows for run in row.group.runs}
        kept = archived(runs.values(), args.work_dirs)
        files |= {args.archive / path: content for path, content in kept.items()}
    write_files(files, args.force)
    print_markdown(text)

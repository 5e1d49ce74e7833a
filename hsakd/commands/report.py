"""One page on any runs, such as a baseline and a distilled student: what was gained, and where.

Every run is compared with that of the same network trained alone, where there is one, else with the
first given. Writes report.html, self-contained, and curves.png.
"""

import argparse
from pathlib import Path

from hsakd.utils.cli import add_trust_option, add_work_dirs, check_out_folder, tool_parser


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Runs, and where to write."""
    parser = tool_parser(__doc__)
    add_work_dirs(parser)
    parser.add_argument('--out', type=Path, metavar='DIR', help='default: the first WORK_DIR')
    parser.add_argument(
        '--metric', default='accuracy/top1', help='key of the figures (default: %(default)s)'
    )
    parser.add_argument(
        '--no-test', action='store_true', help='leave out what needs checkpoints and test images'
    )
    add_trust_option(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Find, compare, test and write."""
    args = parse_args(argv)
    import hsakd  # noqa: F401  registers hsakd's types
    from hsakd.apis.report import make_report
    from hsakd.results.runs import find_runs
    from hsakd.results.tables import collect
    from hsakd.utils.files import write_files

    out = args.out or Path(args.work_dirs[0])
    runs, left_out = find_runs(args.work_dirs)
    check_out_folder(out, '--out')
    first = runs[0].name if runs else None
    report = make_report(collect(runs, left_out, args.metric), first, not args.no_test)
    files = {out / 'curves.png': report.curves, out / 'report.html': report.page.encode()}
    write_files(files, force=True)
    print(*report.verdicts, *(f'note: {note}' for note in report.notes), *files, sep='\n')

"""Draw what was logged by epoch, one panel a key: lines are means over seeds, bands their range.

A run that did not finish its schedule has a line of its own, which says so.
"""

import argparse
import sys

from hsakd.utils.cli import add_work_dirs, check_out_file, tool_parser


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Runs, keys and the picture."""
    parser = tool_parser(__doc__)
    add_work_dirs(parser)
    parser.add_argument('--out', required=True, metavar='FILE.png', help='the picture')
    parser.add_argument(
        '--keys',
        nargs='+',
        default=['accuracy/top1', 'loss_cls'],
        metavar='KEY',
        help='keys of vis_data/scalars.json (default: accuracy/top1 loss_cls)',
    )
    parser.add_argument('--force', action='store_true', help='replace the file')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Find, group, and draw."""
    args = parse_args(argv)
    check_out_file(args.out, force=True, suffix='.png')
    from hsakd.results.runs import find_runs
    from hsakd.results.tables import group_runs
    from hsakd.utils.errors import DataError
    from hsakd.utils.files import write_files
    from hsakd.visualization import draw_curves

    runs, left_out = find_runs(args.work_dirs)
    for run in left_out:
        print(f'not drawn: {run}', file=sys.stderr)
    DataError.check(runs, 'WORK_DIR', 'a run to draw', 'none')
    groups = group_runs(run for run in runs if run.finished)
    for run in runs:
        if not run.finished:
            groups += group_runs([run])
    picture = draw_curves(groups, args.keys)
    write_files({args.out: picture}, args.force)
    print(args.out)

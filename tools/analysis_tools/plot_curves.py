#!/usr/bin/env python
"""Draw what was logged by epoch, one panel a key: lines are means over seeds, bands their range.

A run that did not finish its schedule has a line of its own, which says so.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hsakd.utils.cli import check_out_file, run_tool  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'work_dirs',
        nargs='+',
        metavar='WORK_DIR',
        help='work dir of tools/train.py, or a folder with several of them at any depth',
    )
    parser.add_argument('--out', required=True, metavar='FILE.png', help='the picture')
    parser.add_argument(
        '--keys',
        nargs='+',
        default=['accuracy/top1', 'loss_cls'],
        metavar='KEY',
        help='keys of vis_data/scalars.json (default: accuracy/top1 loss_cls)',
    )
    parser.add_argument('--force', action='store_true', help='replace the file')
    return parser.parse_args()


def main() -> None:
    """Find, group, and draw."""
    args = parse_args()
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


if __name__ == '__main__':
    run_tool(main)

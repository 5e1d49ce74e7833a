#!/usr/bin/env python
"""Train what a config describes: baseline, teacher, student or detector."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hsakd.utils.cli import parse_runner_args, run_tool, runner_parser  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = runner_parser(__doc__)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint; without a path, from the last one in the work dir',
    )
    parser.add_argument(
        '--fast',
        action='store_true',
        help='compiled, and in bfloat16 where the hardware has it: see docs/benchmarks.md',
    )
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate while training')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate with the actual batch size over the config's",
    )
    parser.add_argument(
        '--no-persistent-workers', action='store_true', help='new loader workers every epoch'
    )
    return parse_runner_args(parser)


def main() -> None:
    """Config and options to a runner, and train."""
    args = parse_args()
    from hsakd.apis.running import training_runner
    from hsakd.engine.distributed import shutdown_processes

    training_runner(args).train()
    shutdown_processes()


if __name__ == '__main__':
    run_tool(main)

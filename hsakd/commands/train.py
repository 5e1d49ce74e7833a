"""Train what a config describes: baseline, teacher, student or detector."""

import argparse

from hsakd.utils.cli import parse_runner_args, runner_parser


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """A config, and how to train it."""
    parser = runner_parser(__doc__)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint (default: the last one)',
    )
    parser.add_argument(
        '--fast',
        action='store_true',
        help='compiled, and in bfloat16 where the hardware has it',
    )
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate while training')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the batch size',
    )
    parser.add_argument(
        '--no-persistent-workers', action='store_true', help='new loader workers every epoch'
    )
    return parse_runner_args(parser, argv)


def main(argv: list[str] | None = None) -> None:
    """Config and options to a runner, and train."""
    args = parse_args(argv)
    from hsakd.apis.running import training_runner
    from hsakd.engine.distributed import shutdown_processes

    training_runner(args).train()
    shutdown_processes()

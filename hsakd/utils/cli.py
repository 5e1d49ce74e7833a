"""What the command-line tools share."""

import argparse
import sys
from collections.abc import Callable

from .errors import UserError


def run_tool(main: Callable[[], None]) -> None:
    """Run a tool; an error that the user can mend is one message and exit status 1.

    A worker's error arrives wrapped in the worker's traceback, of which only the message is kept.
    """
    try:
        main()
    except UserError as error:
        message = str(error).split(f'{type(error).__name__}: ')[-1].strip()
        print(f'error: {message}', file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        sys.exit(130)


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line; ``--cfg-options`` without ``=`` is a usage error too."""
    try:
        return parser.parse_args()
    except ValueError:
        parser.error('--cfg-options: accepted are KEY=VALUE ...')

"""``hsakd COMMAND ...``, or ``python -m hsakd COMMAND ...``."""

import difflib
import signal
import sys
from importlib import import_module

from hsakd.commands import COMMANDS
from hsakd.utils.cli import run_tool
from hsakd.version import __version__


def usage() -> str:
    """All commands, a line each."""
    lines = [f'  {name:13} {what}' for name, (what, _) in COMMANDS.items()]
    return '\n'.join(
        [
            'usage: hsakd COMMAND [arguments]',
            '',
            f'Knowledge distillation, hsakd {__version__}. `hsakd COMMAND --help` lists options.',
            '',
            *lines,
        ]
    )


def main() -> None:
    """Run a command; or list all, with status 2 unless that was asked for."""
    name = sys.argv[1] if len(sys.argv) > 1 else ''
    if name in ('-h', '--help', 'help'):
        print(usage())
    elif name in ('-V', '--version'):
        print(f'hsakd {__version__}')
    elif name in COMMANDS:
        module = import_module(f'hsakd.commands.{name.replace("-", "_")}')
        only_prints = COMMANDS[name][1] is None
        if only_prints:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # of `| head`
        run_tool(lambda: module.main(sys.argv[2:]), set_up=not only_prints)
    else:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        meant = f'; did you mean {near[0]}?' if near else ''
        print(f'error: no command {name!r}{meant}' if name else usage(), file=sys.stderr)
        sys.exit(2)


if __name__ == '__main__':
    main()

"""What the command-line tools share."""

import argparse
import contextlib
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mmengine.config import DictAction

import hsakd
from hsakd.results.names import config_file

from .errors import Preempted, UserError

#: What every option or argument that takes a config says of it.
CONFIG_HELP = 'a file, or a name of `hsakd list configs`'

# What --trust-checkpoint enters, until the tool ends.
_while_running = contextlib.ExitStack()

#: Names, in the environment, the folder by which tools/dist_train.sh and slurm_train.sh ask their
#: processes to stop (a file ``stop``) and learn that the state was saved (``saved``).
STOP_DIR = 'HSAKD_STOP_DIR'

#: Names, in the environment, the file in which a tool that fails leaves its message, for the tool
#: that called it.
ERROR_FILE = 'HSAKD_ERROR_FILE'


def run_tool(main: Callable[[], None], set_up: bool = True) -> None:
    """Set up this process, unless it is only asked for help, and run a tool.

    An error that the user can mend is one message and exit status 1.
    A worker's error arrives wrapped in the worker's traceback, of which only the message is kept.
    A training that was asked to stop, and saved its state, ends with status 75 (EX_TEMPFAIL), or
    130 after Ctrl-C; with 0 where a script of ours started it, which torchrun and srun then take
    for no failure.
    """
    try:
        with _while_running:
            if set_up and not {'-h', '--help'} & {*sys.argv[1:]}:
                hsakd.setup()
            main()
    except UserError as error:
        message = str(error).split(f'{type(error).__name__}: ')[-1].strip()
        print(f'error: {message}', file=sys.stderr)
        if ERROR_FILE in os.environ:
            Path(os.environ[ERROR_FILE]).write_text(message)
        sys.exit(1)
    except Preempted as stop:
        print(stop, file=sys.stderr)
        sys.exit(0 if STOP_DIR in os.environ else stop.status)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        sys.exit(130)


def check_out_folder(folder: Path, option: str) -> None:
    """Check that ``folder`` can be written to, or made, before work is done for it.

    Raises:
        UserError: It cannot.
    """
    there, found = folder.absolute(), ''
    try:
        there = next(path for path in (there, *there.parents) if path.exists())
        if there.is_dir():
            with tempfile.TemporaryFile(dir=there):
                return
        found = f'{str(there)!r}, which is a file'
    except OSError as error:
        found = f'{str(there)!r}: {error.strerror}'
    raise UserError.expected(option, 'a folder that can be written to', found)


def check_out_file(
    path: str | Path | None,
    force: bool,
    option: str = '--out',
    suffix: str | tuple[str, ...] = '',
) -> None:
    """Check that a file can be written, where one is asked for, before work is done for it.

    Raises:
        UserError: It has another suffix, exists and is not to be replaced, or it or its folder
            cannot be written to.
    """
    if path:
        path, shown = Path(path), repr(str(path))
        kinds = suffix if isinstance(suffix, str) else ' or '.join(suffix)
        expected = f'the name of a {kinds} file'.replace('  ', ' ')
        UserError.check(path.name.lower().endswith(suffix), option, expected, shown)
        check_out_folder(path.parent, option)
        UserError.check(not path.is_dir(), option, expected, f'{shown}, a folder')
        writable = not path.is_file() or os.access(path, os.W_OK)
        UserError.check(writable, option, 'a file that can be written', shown)
        free = force or not path.exists()
        UserError.check(free, option, 'a new name, or --force to replace it', shown)


def print_markdown(text: str) -> None:
    """Print Markdown: drawn in a terminal, as it is elsewhere."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        print(text, end='', flush=True)


class _ShortHelp(argparse.RawDescriptionHelpFormatter):
    """Help that fits a screen: options stand in the list below the usage alone."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26)

    def add_usage(self, usage: str | None, actions: Iterable[argparse.Action], *args) -> None:
        """Add what has to be given, and that there are options."""
        needed = [a for a in actions if a.required or not a.option_strings]
        options = argparse.Action([], 'options', metavar='[options]')
        super().add_usage(usage, [*needed, options], *args)

    def add_argument(self, action: argparse.Action) -> None:
        """Add an argument, but for --help, which its reader knows."""
        if action.dest != 'help':
            super().add_argument(action)


def tool_parser(description: str) -> argparse.ArgumentParser:
    """A parser of what was typed, ``hsakd train ...`` or ``tools/train.py ...``."""
    name = ' '.join(['hsakd', *sys.argv[1:2]]) if is_command() else None
    return argparse.ArgumentParser(name, description=description, formatter_class=_ShortHelp)


def add_work_dirs(parser: argparse.ArgumentParser) -> None:
    """Add the argument of commands that read what trainings wrote."""
    of = 'work dir of a training, or a folder with several of them at any depth'
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help=of)


def is_command() -> bool:
    """Whether this process is ``hsakd ...`` or ``python -m hsakd ...``."""
    file = Path(sys.argv[0])
    return file.name == 'hsakd' or file.parts[-2:] == ('hsakd', '__main__.py')


def command_line() -> str:
    """What started this process, as it is typed."""
    words = ['hsakd', *sys.argv[1:]] if is_command() else ['python', *sys.argv]
    return shlex.join(words)


class _TrustCheckpoints(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *args: object
    ) -> None:
        from .checkpoint import trust_checkpoints  # which imports torch

        setattr(namespace, self.dest, True)
        _while_running.enter_context(trust_checkpoints())


def add_trust_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--trust-checkpoint``, for every tool that takes a checkpoint.

    Parsing it has its effect, until :func:`run_tool` returns.
    """
    parser.add_argument(
        '--trust-checkpoint',
        action=_TrustCheckpoints,
        nargs=0,
        default=False,
        help='execute the code in a checkpoint instead of refusing it; for files of people whom '
        'you trust with this machine',
    )


def positive_number(text: str) -> int:
    """An ``argparse`` type: 1, 2, ..."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f'expected 1 or more, got {text!r}')
    return int(text)


class _ConfigOptions(DictAction):
    """mmengine's, which deletes all spaces, with those that are inside of values."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],
        option_string: str | None = None,
    ) -> None:
        """Add values by key to what earlier ones of the same option gave."""
        try:
            super().__call__(parser, namespace, [*map(_keep_spaces, values)], option_string)
        except (ValueError, AssertionError, RecursionError) as error:
            reason = {  # mmengine has no '=', unbalanced brackets, or a comma inside of dict(...)
                AssertionError: f': {error}'.replace('\0', ' '),
                RecursionError: '; values of a dict are given one by one, KEY.NAME=VALUE',
            }.get(type(error), '')
            given = shlex.join(values)
            raise argparse.ArgumentError(
                self, f'expected KEY=VALUE ..., got {given}{reason}'
            ) from None
        options = getattr(namespace, self.dest)
        setattr(namespace, self.dest, {key: _with_spaces(v) for key, v in options.items()})


def _keep_spaces(option: str) -> str:
    """``KEY=VALUE`` with NULs, which no argument can hold, for the spaces that mean something."""
    key, equals, value = option.partition('=')
    value = value.strip()
    is_list = ',' in value or value.lstrip('\'"').startswith(('[', '('))
    inner = r'(?<![ ,\[(]) +(?![ ,\])])' if is_list else ' '
    return key + equals + re.sub(inner, lambda found: '\0' * len(found[0]), value)


def _with_spaces(value: object) -> object:
    if isinstance(value, list | tuple):
        return type(value)(map(_with_spaces, value))
    return value.replace('\0', ' ') if isinstance(value, str) else value


def add_config_options(parser: argparse.ArgumentParser, help_: str) -> None:
    """Add ``--cfg-options``, for every tool that takes a config: values by key, or None."""
    parser.add_argument(
        '--cfg-options', nargs='+', action=_ConfigOptions, metavar='KEY=VALUE', help=help_
    )


def runner_parser(description: str) -> argparse.ArgumentParser:
    """The options that tools/train.py and tools/test.py share, named as mmpretrain's."""
    parser = tool_parser(description)
    parser.add_argument('config', help=CONFIG_HELP)
    parser.add_argument('--work-dir', help='default: work_dirs/CONFIG_NAME', metavar='DIR')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision (GPU)')
    parser.add_argument('--no-pin-memory', action='store_true', help='loaders do not pin memory')
    parser.add_argument(
        '--skip-bad-images',
        action='store_true',
        help='leave out and count images that cannot be decoded',
    )
    add_config_options(
        parser,
        'override keys of the config, e.g. model.teacher_ckpt=FILE, lists as key="[a,b]"',
    )
    add_trust_option(parser)
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser


def parse_runner_args(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """Parse the options of a :func:`runner_parser`."""
    args = parser.parse_args(argv)
    args.config = config_file(args.config)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args

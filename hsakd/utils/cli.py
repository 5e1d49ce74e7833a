"""What the command-line tools share."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import hsakd

from .errors import Preempted, UserError

# What --trust-checkpoint enters, until the tool ends.
_while_running = contextlib.ExitStack()

#: Names, in the environment, the folder by which tools/dist_train.sh and slurm_train.sh ask their
#: processes to stop (a file ``stop``) and learn that the state was saved (``saved``).
STOP_DIR = 'HSAKD_STOP_DIR'


def run_tool(main: Callable[[], None]) -> None:
    """Set up this process and run a tool, unless it is only asked for help.

    An error that the user can mend is one message and exit status 1.
    A worker's error arrives wrapped in the worker's traceback, of which only the message is kept.
    A training that was asked to stop, and saved its state, ends with status 75 (EX_TEMPFAIL), or
    130 after Ctrl-C; with 0 where a script of ours started it, which torchrun and srun then take
    for no failure.
    """
    try:
        with _while_running:
            if not {'-h', '--help'} & {*sys.argv[1:]}:
                hsakd.setup()
            main()
    except UserError as error:
        message = str(error).split(f'{type(error).__name__}: ')[-1].strip()
        print(f'error: {message}', file=sys.stderr)
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
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        found = 'cannot be written to' if there.is_dir() else 'is a file'
        expected = 'a folder that can be written to'
        raise UserError.expected(option, expected, f'{str(there)!r}, which {found}')


def check_out_file(path: Path | None, force: bool, option: str = '--out') -> None:
    """Check that a file can be written, where one is asked for, before work is done for it.

    Raises:
        UserError: It exists and is not to be replaced, or its folder cannot be written to.
    """
    if path:
        free = force or not path.exists()
        UserError.check(free, option, 'a new name, or --force to replace it', f'{str(path)!r}')
        check_out_folder(path.parent, option)


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
        help='execute the code that a checkpoint holds besides tensors and plain data, instead of '
        'refusing it; for files of people you trust with all that you may do on this machine',
    )


def positive_number(text: str) -> int:
    """An ``argparse`` type: 1, 2, ..."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f'expected 1 or more, got {text!r}')
    return int(text)


def runner_parser(description: str) -> argparse.ArgumentParser:
    """The options that tools/train.py and tools/test.py share, named as mmpretrain's."""
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for everything (default: work_dirs/CONFIG_NAME)')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision (GPU)')
    parser.add_argument('--no-pin-memory', action='store_true', help='loaders do not pin memory')
    parser.add_argument(
        '--skip-bad-images',
        action='store_true',
        help='leave out and count images that cannot be decoded (decodes every image once first)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override keys of the config, e.g. optim_wrapper.optimizer.lr=0.01 '
        'model.teacher_ckpt=FILE; lists as key="[a,b]"',
    )
    add_trust_option(parser)
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser


def parse_runner_args(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the options of a :func:`runner_parser`."""
    try:
        args = parser.parse_args()
    except ValueError:  # mmengine's, of --cfg-options
        parser.error('--cfg-options: expected KEY=VALUE ...')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args

import functools
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import torch
from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from hsakd.engine.checkpoint_files import INTERRUPTED, point_to
from hsakd.engine.distributed import anywhere
from hsakd.registry import HOOKS
from hsakd.utils.cli import STOP_DIR
from hsakd.utils.errors import EX_PREEMPTED, Preempted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Saves and stops a training that is asked to: by SIGTERM or SIGUSR1, or by Ctrl-C.

    It finishes the iteration (or the validation) it is in, saves ``interrupted.pth``, from which
    ``--resume`` goes on exactly, and exits with status 75, after Ctrl-C with 130. Several processes
    stop at the same iteration, whichever of them was asked. A second Ctrl-C stops at once.

    Args:
        interval: Iterations between two agreements of several processes; by default 10 on an
            accelerator, for which each is a wait, and 1 on the CPU.
    """

    priority = 'LOWEST'

    def __init__(self, interval: int | None = None) -> None:
        self.interval = interval or (10 if torch.accelerator.is_available() else 1)
        self._received: signal.Signals | None = None
        self._previous = {}

    def before_run(self, runner: Runner) -> None:
        """Listen, unless this is a test, which just ends; only the main thread can.

        By SIGTERM torchrun also ends workers since another one died; where our script started it,
        that asks by a file.
        """
        if not isinstance(runner.optim_wrapper, OptimWrapper):
            return
        _hold_signals_in_forks()
        by_script = STOP_DIR in os.environ and 'TORCHELASTIC_RUN_ID' in os.environ
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if not (by_script and number == signal.SIGTERM):
                    self._previous[number] = signal.signal(number, self._note)

    def after_run(self, runner: Runner) -> None:
        """Restore the signal handlers of before."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Stop here if that was asked for."""
        if get_world_size() == 1 or self.every_n_train_iters(runner, self.interval):
            self._stop_if_asked(runner, runner.iter + 1)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Stop here if that was asked for."""
        if runner.iter < runner.max_iters:
            self._stop_if_asked(runner, runner.iter)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = signal.Signals(number)
        if number == signal.SIGINT:
            print(
                'stopping: saving a checkpoint first; Ctrl-C again stops at once', file=sys.stderr
            )
            signal.signal(number, signal.default_int_handler)

    def _stop_if_asked(self, runner: Runner, iteration: int) -> None:
        folder = os.environ.get(STOP_DIR)
        by_file = folder is not None and (Path(folder) / 'stop').exists()
        if not anywhere(by_file or self._received is not None):
            return
        path = Path(runner.work_dir) / INTERRUPTED
        meta = dict(epoch=runner.epoch, iter=iteration)
        runner.save_checkpoint(runner.work_dir, INTERRUPTED, meta=meta, by_epoch=False)
        if is_main_process():
            point_to(path, runner.work_dir)
        runner.visualizer.close()
        barrier()  # a launcher may end all processes when one leaves
        if folder and os.environ.get('LOCAL_RANK', '0') == '0':
            (Path(folder) / 'saved').touch()
        name = self._received.name if self._received else 'a signal to another process'
        raise Preempted(
            f'stopped by {name} after iteration {iteration} of {runner.max_iters}; saved to '
            f'{str(path)!r}, from which --resume goes on',
            130 if self._received == signal.SIGINT else EX_PREEMPTED,
        )


#: Of each thread, ``before``: the signals that it held back before it forked.
_mask = threading.local()


def _hold() -> None:
    _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _release() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)


def _release_child() -> None:
    """Let a child be ended by signals, as libraries end what they fork."""
    for number in SIGNALS:
        if isinstance(getattr(signal.getsignal(number), '__self__', None), PreemptionHook):
            # Ctrl-C goes to all processes of a terminal, and this one is not the one to save.
            ignored = number == signal.SIGINT
            signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
    _release()


@functools.cache
def _hold_signals_in_forks() -> None:
    """Let no signal be lost or reach a child while this process forks; once in a process."""
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_release_child)

import os
import signal
import threading
from pathlib import Path
from types import FrameType

import torch
from mmengine.dist import all_reduce, barrier, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from hsakd.registry import HOOKS
from hsakd.utils.cli import STOP_DIR
from hsakd.utils.errors import Preempted

from .checkpoint_hook import CheckpointHook

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Saves and stops a training that a cluster's scheduler asks to stop, by SIGTERM or SIGUSR1.

    It finishes the iteration (or the validation) it is in, saves ``interrupted.pth``, from which
    ``--resume`` goes on exactly, and exits with status 75. Several processes stop at the same
    iteration, whichever of them was asked.

    Args:
        interval: Iterations between two agreements of several processes; by default 10 on an
            accelerator, for which each is a wait, and 1 on the CPU.
    """

    priority = 'LOWEST'

    def __init__(self, interval: int | None = None) -> None:
        self.interval = interval or (10 if torch.accelerator.is_available() else 1)
        self._received: signal.Signals | None = None
        self._pid = os.getpid()
        self._previous = {}

    def before_train(self, runner: Runner) -> None:
        """Listen; only the main thread can."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._note)

    def after_train(self, runner: Runner) -> None:
        """Listen no more."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict[str, Tensor] | None = None,
    ) -> None:
        """Stop here if that was asked for."""
        if get_world_size() == 1 or self.every_n_train_iters(runner, self.interval):
            self._stop_if_asked(runner, runner.iter + 1)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Stop here if that was asked for."""
        if runner.iter < runner.max_iters:
            self._stop_if_asked(runner, runner.iter)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._pid:
            self._received = signal.Signals(number)
        else:  # a child that a library forked, and ends by a signal
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _stop_if_asked(self, runner: Runner, iteration: int) -> None:
        folder = os.environ.get(STOP_DIR)
        by_file = folder is not None and (Path(folder) / 'stop').exists()
        asked = torch.tensor(int(by_file or self._received is not None))
        all_reduce(asked)
        if not asked:
            return
        (hook,) = (hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
        path = hook.save_interrupted(runner, iteration)
        runner.visualizer.close()
        barrier()  # a launcher may end all processes when one leaves
        if folder and os.environ.get('LOCAL_RANK', '0') == '0':
            (Path(folder) / 'saved').touch()
        name = self._received.name if self._received else 'a signal to another process'
        raise Preempted(
            f'stopped by {name} after iteration {iteration} of {runner.max_iters}; saved to '
            f'{str(path)!r}, from which --resume goes on'
        )

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.progress import TaskID

from hsakd.engine.display import display
from hsakd.engine.summaries import at_the_end, at_the_start, record_of
from hsakd.registry import HOOKS

#: Seconds between two looks at the figures on a terminal.
_ON_TERMINAL = 0.5


@dataclass
class _Loop:
    """Of training, validation or test.

    Attributes:
        what: It does.
        total: Of iterations.
        done: Iterations.
        start: When it began.
        task: Its line on a terminal.
        first: When the first iteration ended, which sets things up, and how many were done then.
        images: In the iterations after it.
        paused: Seconds after it that other loops took.
        shown: Seconds without these, and images, when figures were shown.
    """

    what: str
    total: int
    done: int
    start: float
    task: TaskID | None
    first: tuple[float, int] | None = None
    images: int = 0
    paused: float = 0
    shown: tuple[float, int] = (0, 0)

    def seconds(self, now: float) -> float:
        """What the iterations after the first took."""
        return now - self.first[0] - self.paused


@HOOKS.register_module()
class ProgressHook(Hook):
    """Says what a training will do, how far it is, and what came out; of tests how far they are.

    On a terminal a line runs along; elsewhere the log has a quiet line now and then. mmengine's
    lines, which are more, go to the log file alone. Losses are read where they are shown, since
    each look waits for the device.

    Args:
        interval: Seconds between two quiet lines.
        clock: Seconds.
    """

    priority = 'BELOW_NORMAL'

    def __init__(self, interval: float = 30, clock: Callable[[], float] = display.clock) -> None:
        self.interval = interval
        self._clock = clock
        self._loops: list[_Loop] = []  # a validation within training is behind it
        self._shown = 0.0

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Say what is trained."""
        self._loops.clear()
        runner.logger.info(at_the_start(runner))
        self._begin('training', runner.max_iters, runner.iter)

    def before_val(self, runner: Runner) -> None:
        """Begin to show a validation."""
        self._begin('validating', len(runner.val_dataloader))

    def before_test(self, runner: Runner) -> None:
        """Begin to show a test."""
        self._begin('testing', len(runner.test_dataloader))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, *args, **kwargs
    ) -> None:
        """Count the images, and show how far it is where that is due."""
        if self._count(data_batch):
            of = f'epoch {runner.epoch + 1}/{runner.max_epochs}'
            figures = []
            with contextlib.suppress(KeyError):  # of models of anybody's
                figures.append(f'loss {runner.message_hub.get_scalar("train/loss").mean(10):.4g}')
            for key, value in [*record_of(runner).metrics.items()][:1]:
                figures.append(f'{key.rpartition("/")[2]} {value:.4g}')
            self._show(runner, of if runner.max_epochs > 1 else 'training', figures)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, *args, **kwargs
    ) -> None:
        """The same of a validation or test."""
        if self._count(data_batch):
            self._show(runner, self._loops[-1].what, [])

    after_test_iter = after_val_iter

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Say what came out."""
        loop = self._loops[-1]
        speed = loop.images / loop.seconds(self._clock()) if loop.images else None
        self._end(runner)
        runner.logger.info(at_the_end(runner, speed))

    def _end(self, runner: Runner) -> None:
        if self._loops:
            loop = self._loops.pop()
            display.remove(loop.task)
            if self._loops:
                self._loops[-1].paused += self._clock() - loop.start

    after_val = after_test = _end

    @master_only
    def _begin(self, what: str, total: int, done: int = 0) -> None:
        task = display.add(what, total, done)
        self._loops.append(_Loop(what, total, done, self._clock(), task))

    def _count(self, batch: object) -> bool:
        """Count an iteration; whether figures are due."""
        if not self._loops:  # not the first process
            return False
        loop, now = self._loops[-1], self._clock()
        loop.done += 1
        if loop.first is None:
            loop.first, loop.paused = (now, loop.done), 0
            return False
        inputs = batch.get('inputs') if isinstance(batch, Mapping) else None
        loop.images += 0 if inputs is None else len(inputs) * get_world_size()
        interval = self.interval if loop.task is None else _ON_TERMINAL
        return now - max(self._shown, loop.start) >= interval

    def _show(self, runner: Runner, what: str, figures: list[str]) -> None:
        loop, now = self._loops[-1], self._clock()
        first, done = loop.first
        left = (now - first) / (loop.done - done) * (loop.total - loop.done)
        figures = [f'ETA {timedelta(seconds=round(left))}', *figures]
        seconds, images = loop.shown
        loop.shown = loop.seconds(now), loop.images
        if loop.images:
            speed = (loop.images - images) / (loop.shown[0] - seconds)
            figures.insert(0, f'{speed:,.0f} images/s')
        if loop.task is None:
            at = f'{what}, iteration {loop.done}/{loop.total}'
            runner.logger.info(', '.join([at, *figures]))
        else:
            display.update(loop.task, what, loop.done, '  '.join(figures))
        self._shown = now

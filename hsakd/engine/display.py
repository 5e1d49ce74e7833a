"""What a person sees of a run on a terminal: a line for each thing at work, below the log."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator

from mmengine.dist import is_main_process
from mmengine.logging import print_log
from rich.console import Console
from rich.file_proxy import FileProxy
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class _Terminal(Console):
    """Standard error, whose cursor stays, since a process that is killed would leave it hidden."""

    def __init__(self) -> None:
        super().__init__(stderr=True)

    def show_cursor(self, show: bool = True) -> bool:
        return show


class Display:
    """Lines with bars, in the first process of a run and where somebody watches; else nothing.

    As a context it leaves the terminal clean, whatever happens. What is printed meanwhile stands
    above the lines.

    Attributes:
        waited: Seconds that were spent in :func:`slow`.
    """

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self.waited = 0.0
        os.register_at_fork(after_in_child=self._leave_to_parent)

    def add(self, what: str, total: int | None = None, done: int = 0) -> TaskID | None:
        """Begin a line; None where there is no terminal.

        Args:
            what: Its text.
            total: Of iterations; where there are none, the time is what changes.
            done: Iterations.
        """
        if self._progress is None:
            console = _Terminal()
            watched = sys.stdout.isatty() and sys.stderr.isatty() and console.is_interactive
            if not (watched and is_main_process()):
                return None
            self._progress = Progress(
                TextColumn('{task.description}', markup=False),
                BarColumn(bar_width=12),
                TimeElapsedColumn(),
                TextColumn('{task.fields[figures]}', markup=False),
                console=console,
                transient=True,
                refresh_per_second=4,
            )
            self._progress.start()
        return self._progress.add_task(what, total=total, completed=done, figures='')

    def update(self, task: TaskID, what: str, done: int, figures: str) -> None:
        """Change a line."""
        self._progress.update(task, description=what, completed=done, figures=figures)

    def remove(self, task: TaskID | None) -> None:
        """End a line."""
        if self._progress and task is not None:
            self._progress.remove_task(task)
            if not self._progress.tasks:
                self.stop()

    def stop(self) -> None:
        """End all lines."""
        progress, self._progress = self._progress, None
        if progress:
            progress.stop()

    def clock(self) -> float:
        """Seconds, which stand still in :func:`slow`."""
        return time.monotonic() - self.waited

    def __enter__(self) -> 'Display':
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _leave_to_parent(self) -> None:
        """Print past the lines in a process that was forked, as workers are."""
        self._progress = None
        for name in ('stdout', 'stderr'):
            stream = getattr(sys, name)
            if isinstance(stream, FileProxy):
                setattr(sys, name, stream.rich_proxied_file)


#: Of this process.
display = Display()


@contextlib.contextmanager
def slow(what: str) -> Iterator[None]:
    """Show what may take minutes while it does, and say how long it took, from a second on."""
    start, task = time.monotonic(), display.add(what)
    if task is None:
        print_log(f'{what} ...', 'current')
    try:
        yield
    finally:
        display.remove(task)
        seconds = time.monotonic() - start
        display.waited += seconds
    if seconds >= 1:
        print_log(f'{what} took {seconds:.0f} s', 'current')

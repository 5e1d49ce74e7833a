import logging
import sys

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hsakd.engine.logs import console_handlers
from hsakd.registry import HOOKS
from hsakd.utils.checks import as_number


@HOOKS.register_module()
class ProgressHook(Hook):
    """A progress bar with losses, learning rate and accuracy where there is a terminal.

    Elsewhere mmengine's log lines stay as they are. The log file holds them in both cases.

    Args:
        interval: Iterations of an epoch between two updates of the figures beside the bar; by
            default 50 on an accelerator, as between two lines of the log, and 10 on the CPU.
    """

    priority = 'BELOW_NORMAL'

    def __init__(self, interval: int | None = None) -> None:
        self.interval = interval or (50 if torch.accelerator.is_available() else 10)
        self.progress: Progress | None = None

    def before_train(self, runner: Runner) -> None:
        """Start the progress bar where there is a terminal."""
        console = Console(stderr=True)
        if not (is_main_process() and console.is_terminal and sys.stdout.isatty()):
            return
        for handler in console_handlers(runner.logger):
            handler.setLevel(logging.WARNING)
        self.progress = Progress(
            TextColumn('{task.description}'),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn('{task.fields[figures]}'),
            console=console,
        )
        self.task = self.progress.add_task(
            'starting', total=runner.max_iters, completed=runner.iter, figures=''
        )
        self.progress.start()

    def after_train_iter(self, runner: Runner, batch_idx: int, *args, **kwargs) -> None:
        """Advance the progress bar by an iteration."""
        if not self.progress:
            return
        of = f'/{runner.max_epochs}' if runner.max_epochs > 1 else ''
        self.progress.update(
            self.task, completed=runner.iter + 1, description=f'epoch {runner.epoch + 1}{of}'
        )
        if self.every_n_inner_iters(batch_idx, self.interval):
            rate = runner.optim_wrapper.get_lr()['lr'][0]
            losses = ' '.join(
                f'{key.removeprefix("train/").removeprefix("loss_")} {history.current():.3f}'
                for key, history in runner.message_hub.log_scalars.items()
                if key.startswith('train/') and 'loss' in key
            )
            self.progress.update(self.task, figures=f'lr {rate:.4g}  {losses}')

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Print a line that stays."""
        if self.progress:
            numbers = {name: as_number(value) for name, value in metrics.items()}
            shown = '  '.join(
                f'{name} {metrics[name] if number is None else f"{number:.2f}"}'
                for name, number in numbers.items()
            )
            self.progress.console.print(f'iteration {runner.iter}: {shown}', markup=False)

    def after_train(self, runner: Runner) -> None:
        """Stop the progress bar."""
        if self.progress:
            self.progress.stop()

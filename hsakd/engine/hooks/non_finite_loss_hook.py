import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from hsakd.registry import HOOKS
from hsakd.utils.errors import NonFiniteLossError


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stops training at a loss that is NaN or infinite, before anything is saved.

    Losses are looked at every ``interval`` iterations together, since each look waits for the
    device, and always before a checkpoint is written. The message names the first iteration and
    term at fault all the same.

    Args:
        interval: Iterations between two looks on an accelerator; on the CPU every loss is looked
            at, which costs nothing there.
    """

    priority = 'VERY_HIGH'

    def __init__(self, interval: int = 10) -> None:
        self.interval = interval
        self._pending: list[tuple[int, dict[str, Tensor]]] = []

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict[str, Tensor] | None = None,
    ) -> None:
        """Remember the losses of this iteration, and look at them when it is time."""
        losses = {name: value for name, value in outputs.items() if 'loss' in name}
        self._pending.append((runner.iter + 1, losses))
        on_cpu = all(value.device.type == 'cpu' for value in losses.values())
        if on_cpu or len(self._pending) >= self.interval:
            self._look(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Look before weights that may be spoilt are written."""
        self._look(runner)

    def _look(self, runner: Runner) -> None:
        pending, self._pending = self._pending, []
        if not pending:
            return
        values = torch.stack([value.detach() for _, losses in pending for value in losses.values()])
        if torch.isfinite(values).all():
            return
        for iteration, losses in pending:
            bad = {
                name: value.item() for name, value in losses.items() if not torch.isfinite(value)
            }
            if bad:
                terms = {name: value for name, value in bad.items() if name != 'loss'} or bad
                found = ', '.join(f'{name} is {value}' for name, value in terms.items())
                raise NonFiniteLossError(
                    f'{found} at iteration {iteration}; training stopped, and checkpoints in '
                    f'{runner.work_dir} are from before. Try a lower '
                    'optim_wrapper.optimizer.lr, optim_wrapper.clip_grad, or no --amp'
                )

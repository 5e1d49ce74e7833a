import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from torch import Tensor

from hsakd.registry import HOOKS
from hsakd.utils.errors import NonFiniteLossError

#: Iterations between two looks, for which the host waits: as many as between two lines of the log.
ON_ACCELERATOR = 50


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stops training at a loss or weight that is NaN or infinite, before anything is saved.

    And where gradients overflow at every step under AMP, which then skips the steps and halves its
    loss scale: below 1 there is no use in it.

    Losses are looked at every ``interval`` iterations together, since each look waits for the
    device; the message names the first iteration and term at fault all the same. Losses and weights
    are looked at before every validation and before a checkpoint is due: mmengine's
    ``CheckpointHook`` removes the old file before it asks for the new one, so that
    ``before_save_checkpoint`` would be too late.

    Args:
        interval: Iterations of an epoch between two looks at losses; by default 50 on an
            accelerator, as between two lines of the log, for which it waits as well, and 1 on the
            CPU, where a look costs little.
    """

    priority = 'VERY_HIGH'

    def __init__(self, interval: int | None = None) -> None:
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
        losses = {name: v.detach() for name, v in (outputs or {}).items() if 'loss' in name}
        if losses:
            self._pending.append((runner.iter + 1, losses))
        on_cpu = all(value.device.type == 'cpu' for value in losses.values())
        if self.every_n_inner_iters(batch_idx, self.interval or (1 if on_cpu else ON_ACCELERATOR)):
            self._check_losses(runner)
        if self._checkpoint_is_due(runner):
            self.after_train_epoch(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Look before a checkpoint of this epoch replaces an earlier one."""
        self._check_losses(runner)
        _check_weights(runner)

    def before_val(self, runner: Runner) -> None:
        """Look before validation, whose best checkpoint replaces an earlier one."""
        self.after_train_epoch(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Look before weights that may be spoiled are written, whoever writes them."""
        self._check_losses(runner)

    def _checkpoint_is_due(self, runner: Runner) -> bool:
        """Whether a checkpoint by iterations follows this one."""
        return any(
            hook.every_n_train_iters(runner, hook.interval, hook.save_begin)
            or (hook.save_last and hook.is_last_train_iter(runner))
            for hook in runner.hooks
            if isinstance(hook, CheckpointHook) and not hook.by_epoch
        )

    def _check_losses(self, runner: Runner) -> None:
        pending, self._pending = self._pending, []
        if not pending:
            return
        values = torch.stack([value for _, losses in pending for value in losses.values()])
        if torch.isfinite(values).all():
            _check_loss_scale(runner, pending[-1][0])
            return
        for iteration, losses in pending:
            bad = {
                name: value.item() for name, value in losses.items() if not torch.isfinite(value)
            }
            if bad:
                terms = {name: value for name, value in bad.items() if name != 'loss'} or bad
                found = ', '.join(f'{name} is {value}' for name, value in terms.items())
                raise _stopped(f'{found} at iteration {iteration}', runner)


def _check_loss_scale(runner: Runner, iteration: int) -> None:
    """Look at the loss scale of AMP, for which the device has just been waited for."""
    scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
    scale = scaler.get_scale() if scaler is not None else 1
    if scale < 1:
        raise _stopped(
            f'the loss scale of AMP fell to {scale:g} by iteration {iteration}: gradients '
            'are not finite at step after step, and no weight changes any more',
            runner,
        )


def _check_weights(runner: Runner) -> None:
    """Look at all weights and running statistics; the last step may have spoiled them."""
    weights = runner.model.state_dict()
    finite = torch.stack([torch.isfinite(value).all() for value in weights.values()])
    if not finite.all():
        bad = [name for name, ok in zip(weights, finite.tolist(), strict=True) if not ok]
        raise _stopped(f'{len(bad)} weights are NaN or infinite, e.g. {bad[0]}', runner)


def _stopped(found: str, runner: Runner) -> NonFiniteLossError:
    return NonFiniteLossError(
        f'{found}; training stopped, and checkpoints in {runner.work_dir} are from before. Try a '
        'lower optim_wrapper.optimizer.lr, optim_wrapper.clip_grad, or no --amp (or, with it, '
        'optim_wrapper.dtype=bfloat16)'
    )

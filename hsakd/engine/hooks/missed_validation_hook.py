from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from hsakd.registry import HOOKS

from .checkpoint_hook import VALIDATED, done


@HOOKS.register_module()
class MissedValidationHook(Hook):
    """Validates at the start of a resumed run, where a validation was due and is not in its state.

    mmengine saves a checkpoint before it validates, so that a run that was interrupted after that
    would go on, or end, without the figures of that epoch or without the record of the best ones.
    A checkpoint that is saved again after it (a new best) has what a validation changes.
    """

    priority = 'VERY_LOW'

    def before_train(self, runner: Runner) -> None:
        """Validate if a validation was due where the run goes on."""
        if not runner._resume or runner.val_loop is None:
            return
        loop = runner.train_loop
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        if by_epoch and loop.iter > loop.epoch * len(loop.dataloader):  # within an epoch
            return
        at, end = done(loop), loop.max_epochs if by_epoch else loop.max_iters
        if runner.message_hub.runtime_info.get(VALIDATED) == at:
            return
        loop._decide_current_val_interval()
        if at >= max(1, loop.val_begin) and (at % loop.val_interval == 0 or at == end):
            runner.logger.info(f'validating {"epoch" if by_epoch else "iteration"} {at} first')
            runner.val_loop.run()
            runner.model.train()

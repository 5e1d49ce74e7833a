from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from hsakd.registry import HOOKS


@HOOKS.register_module()
class MissedValidationHook(Hook):
    """Validates at the start of a resumed run what was interrupted before its validation.

    mmengine saves a checkpoint before it validates, so that a run that is interrupted in between
    would go on, or end, without the figures of that epoch. Whether they are missing is read from
    the logs in the work dir; where there are none of this run, nothing is done.
    """

    priority = 'VERY_LOW'

    def before_train(self, runner: Runner) -> None:
        """Validate if a validation was due where the run goes on, and was not logged."""
        if not runner._resume or runner.val_loop is None:
            return
        loop = runner.train_loop
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        at, end = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
        loop._decide_current_val_interval()
        due = at >= max(1, loop.val_begin) and (at % loop.val_interval == 0 or at == end)
        missed = [due and _logs_end_before(runner.work_dir, at)]
        broadcast_object_list(missed)
        if missed[0]:
            runner.logger.info(f'validating {"epoch" if by_epoch else "iteration"} {at} first')
            runner.val_loop.run()
            runner.model.train()


def _logs_end_before(work_dir: str, at: int) -> bool:
    """Whether the last run in a work dir was last validated before epoch or iteration ``at``."""
    from hsakd.visualization.work_dirs import find_runs  # with matplotlib, which takes a second

    runs, _ = find_runs([work_dir])
    return bool(runs) and runs[-1].validated < at

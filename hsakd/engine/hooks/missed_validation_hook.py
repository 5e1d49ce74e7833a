import json
from pathlib import Path

from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from hsakd.registry import HOOKS


@HOOKS.register_module()
class MissedValidationHook(Hook):
    """Validates at the start of a resumed run what was interrupted before its validation.

    mmengine saves a checkpoint before it validates, so that a run that is interrupted in between
    would go on, or end, without the figures of that epoch.
    """

    priority = 'VERY_LOW'

    def before_train(self, runner: Runner) -> None:
        """Validate if the logs in the work dir have no validation at the resumed epoch."""
        loop = runner.train_loop
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        at = runner.epoch if by_epoch else runner.iter
        end = loop.max_epochs if by_epoch else loop.max_iters
        due = at > 0 and (at % loop.val_interval == 0 or at == end)
        if not (runner._resume and due and runner.val_loop is not None):
            return
        missed = [not _was_validated(Path(runner.work_dir), at)]
        broadcast_object_list(missed)
        if missed[0]:
            runner.logger.info(f'validating {"epoch" if by_epoch else "iteration"} {at} first')
            runner.val_loop.run()
            runner.model.train()


def _was_validated(work_dir: Path, at: int) -> bool:
    for log in work_dir.glob('*/vis_data/scalars.json'):
        for line in log.read_text().splitlines(keepends=True):
            record = json.loads(line) if line.endswith('\n') else {}
            if 'iter' not in record and record.get('step') == at:
                return True
    return False

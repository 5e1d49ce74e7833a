from mmengine.hooks import EarlyStoppingHook as MMEngineEarlyStoppingHook
from mmengine.runner import Runner

from hsakd.registry import HOOKS
from hsakd.utils.errors import ConfigError

_STATE = 'early_stopping'


@HOOKS.register_module()
class EarlyStoppingHook(MMEngineEarlyStoppingHook):
    """mmengine's, whose count of validations without a better metric is in every checkpoint.

    A training that it stopped stays stopped when it is resumed, unless ``patience`` was raised. It
    counts before :class:`CheckpointHook` saves the best one.
    """

    priority = 'LOW'

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Count this validation.

        Raises:
            ConfigError: It has no such metric, so that training would never be stopped.
        """
        expected = f'one of {", ".join(metrics)}'
        ConfigError.check(
            self.monitor in metrics, 'EarlyStoppingHook.monitor', expected, self.monitor
        )
        super().after_val_epoch(runner, metrics)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the state, by the metric."""
        state = dict(wait_count=self.wait_count, best_score=float(self.best_score))
        checkpoint.setdefault(_STATE, {})[self.monitor] = state

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take the state of a run that is resumed."""
        if runner._resume:
            vars(self).update(checkpoint.get(_STATE, {}).get(self.monitor, {}))

    def before_train(self, runner: Runner) -> None:
        """Do not go on with a training that was stopped."""
        limit, better = self.stopping_threshold, self.rule_map[self.rule]
        reached = limit is not None and better(self.best_score, limit)
        if reached or self.wait_count >= self.patience:
            runner.train_loop.stop_training = True
            runner.logger.warning(
                f'EarlyStoppingHook stopped this training: {self.monitor} was {self.best_score:g} '
                f'at best, {self.wait_count} validations ago; with another '
                f'{"stopping_threshold" if reached else "patience"} it goes on'
            )

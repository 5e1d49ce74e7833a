from mmengine.hooks import Hook
from mmengine.runner import Runner

from hsakd.engine import checks
from hsakd.registry import HOOKS
from hsakd.utils.networks import unwrap


@HOOKS.register_module()
class SetupCheckHook(Hook):
    """Compares model, data and metrics before the first iteration; see :mod:`hsakd.engine.checks`.

    A model's own ``check_weights`` is called too, e.g. for frozen parts without trained weights,
    which several processes would not notice, since their model wrapper passes ``train_step`` by.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._features_checked = False

    def before_train(self, runner: Runner) -> None:
        """Check the model, and training and validation data against it."""
        model, loader = unwrap(runner.model), runner.train_dataloader
        if runner.val_loop is not None:
            validation = runner.val_dataloader.dataset
            checks.check_same_classes(validation, loader.dataset, 'val_dataloader')
        checks.check_sources(runner, loader.dataset)
        checks.check_number_of_classes(model, loader.dataset)
        checks.check_classes(model, loader.dataset, 'train_dataloader')
        checks.check_batches(model, loader)
        if runner.val_loop is not None:
            checks.check_classes(model, validation, 'val_dataloader')
            self.before_val(runner)
        checks.check_normalization(model)
        checks.check_scores(model)
        if hasattr(model, 'check_weights'):
            model.check_weights()
            model.set_up = True

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Check, at the first batch, that heads take what they get."""
        if not self._features_checked:
            checks.check_features(unwrap(runner.model), data_batch)
            self._features_checked = True

    def before_val(self, runner: Runner) -> None:
        """Check validation data and metrics."""
        dataset = runner.val_dataloader.dataset
        checks.check_metrics(runner.val_evaluator, runner.model, dataset, 'val_evaluator')

    def before_test(self, runner: Runner) -> None:
        """Check test data and metrics."""
        dataset = runner.test_dataloader.dataset
        trained = getattr(runner, 'trained_with', None)
        if trained:
            checks.check_trained_classes(trained, dataset, 'test_dataloader')
            checks.check_trained_images(trained, runner.cfg)
        checks.check_classes(runner.model, dataset, 'test_dataloader')
        checks.check_scores(unwrap(runner.model))
        checks.check_metrics(runner.test_evaluator, runner.model, dataset, 'test_evaluator')

from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmpretrain.evaluation import Accuracy

from hsakd.utils.errors import ConfigError


def fit_top_k(evaluator: Evaluator, num_classes: int | None, key: str) -> None:
    """Leave out top-k accuracies that the classes do not allow, e.g. top-5 of three classes.

    Args:
        evaluator: Whose metrics of mmpretrain's ``Accuracy`` are changed.
        num_classes: The scores of an image; None where nobody knows.
        key: The config key of ``evaluator``, for messages.

    Raises:
        ConfigError: A metric has no other.
    """
    for metric in evaluator.metrics if num_classes else ():
        if not isinstance(metric, Accuracy):
            continue
        allowed = tuple(k for k in metric.topk if k <= num_classes)
        expected = f'a number up to {num_classes}, the classes'
        ConfigError.check(allowed, f'{key}: topk', expected, tuple(metric.topk))
        if allowed != tuple(metric.topk):
            left_out = ', '.join(f'top-{k}' for k in metric.topk if k not in allowed)
            MMLogger.get_current_instance().info(
                f'{key}: no {left_out} accuracy, of {num_classes} classes'
            )
            metric.topk = allowed

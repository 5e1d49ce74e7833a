from collections.abc import Iterable

from mmengine.logging import MMLogger
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import ClsHead

from hsakd.utils.errors import ConfigError


def fit_top_k(parts: Iterable[Accuracy | ClsHead], num_classes: int, key: str) -> None:
    """Leave out top-k accuracies that the classes do not allow, e.g. top-5 of three classes.

    Args:
        parts: What has a ``topk``, which is changed.
        num_classes: The scores of an image.
        key: The config key of ``parts``, for messages.

    Raises:
        ConfigError: There is no other.
    """
    for part in parts:
        wanted = (part.topk,) if isinstance(part.topk, int) else tuple(part.topk)
        numbers = all(type(k) is int and k > 0 for k in wanted)
        ConfigError.check(numbers, f'{key}: topk', 'numbers from 1, as in (1, 5)', part.topk)
        allowed = tuple(k for k in wanted if k <= num_classes)
        ConfigError.check(
            allowed, f'{key}: topk', f'a number up to {num_classes}, the classes', wanted
        )
        if allowed != wanted:
            left_out = ', '.join(f'top-{k}' for k in wanted if k not in allowed)
            MMLogger.get_current_instance().info(
                f'{key}: no {left_out} accuracy, of {num_classes} classes'
            )
            part.topk = allowed

from collections.abc import Sequence

from mmengine.evaluator import BaseMetric
from mmpretrain.evaluation import Accuracy

from hsakd.registry import METRICS

from .branch_accuracy import BranchAccuracy


@METRICS.register_module()
class NetworkAccuracy(BaseMetric):
    """Accuracies (percent) of every network i, from 0, that learns online.

    ``net{i}/accuracy/top1`` is that of its head, ``net{i}/branch_l/...`` those of its branches as
    :class:`BranchAccuracy` gives them. Nothing is reported for other models.

    Args:
        collect_device: Device for gathering over ranks.
        prefix: Put before the names.
    """

    default_prefix = ''

    def __init__(self, collect_device: str = 'cpu', prefix: str | None = None) -> None:
        super().__init__(collect_device, prefix)
        self._metrics: list[list[BaseMetric]] = []  # of each network

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Hand each network's predictions, in the field ``networks``, to metrics of its own."""
        per_network = zip(*(sample.get('networks', ()) for sample in data_samples), strict=True)
        for index, predictions in enumerate(per_network):
            if index == len(self._metrics):
                kinds = (
                    Accuracy(topk=1, collect_device=self.collect_device),
                    BranchAccuracy(collect_device=self.collect_device),
                )
                self._metrics.append(list(kinds))
            for metric in self._metrics[index]:
                metric.process(data_batch, predictions)

    def evaluate(self, size: int) -> dict[str, float]:
        """Means over the ``size`` images of the data set."""
        return {
            f'net{index}/{name}': value
            for index, metrics in enumerate(self._metrics)
            for metric in metrics
            for name, value in metric.evaluate(size).items()
        }

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Never called, since each network has metrics of its own."""
        raise NotImplementedError

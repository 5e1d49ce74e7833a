from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.evaluator import BaseMetric, DumpResults


class DumpPredictions(DumpResults):
    """Write predictions to a file, as tensors and plain data to a ``.pth`` file.

    Such a file can be read with ``weights_only``, and so without executing anything.

    Args:
        path: Of the file; of other suffixes than ``.pth`` it is pickled by mmengine.
    """

    def __init__(self, path: str) -> None:
        BaseMetric.__init__(self)
        self.out_file_path = path

    def compute_metrics(self, results: list) -> dict:
        """Write the file; there is nothing to measure."""
        if Path(self.out_file_path).suffix != '.pth':
            return super().compute_metrics(results)
        torch.save(_plain(results), self.out_file_path)
        return {}


def _plain(value: object) -> object:
    """A value without the boxes of mmdet, which wrap tensors."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return getattr(value, 'tensor', value) if not isinstance(value, torch.Tensor) else value

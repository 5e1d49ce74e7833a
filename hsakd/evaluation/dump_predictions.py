from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from mmengine.evaluator import BaseMetric, DumpResults


class DumpPredictions(DumpResults):
    """Write predictions to a file, as tensors and plain data to a ``.pth`` file.

    Such a file can be read with ``weights_only``, and so without executing anything.

    Args:
        path: Of the file; of other suffixes than ``.pth`` it is pickled by mmengine.
    """

    default_prefix = ''

    def __init__(self, path: str) -> None:
        BaseMetric.__init__(self)
        self.out_file_path = path

    def compute_metrics(self, results: list) -> dict:
        """Write the file; there is nothing to measure."""
        if Path(self.out_file_path).suffix != '.pth':
            return super().compute_metrics(results)
        Path(self.out_file_path).parent.mkdir(parents=True, exist_ok=True)
        torch.save(_plain(results), self.out_file_path)
        return {}


def _plain(value: object) -> object:
    """A value without the boxes of mmdet, which wrap tensors."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return getattr(value, 'tensor', value) if not isinstance(value, torch.Tensor) else value


def plain_values(value: object) -> object:
    """Metrics as JSON, YAML and pickle files can hold them: text, numbers, lists, mappings."""
    if isinstance(value, Mapping):
        return {str(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | range):
        return [plain_values(item) for item in value]
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return plain_values(value.tolist())
    return value if isinstance(value, str | int | float | None) else str(value)

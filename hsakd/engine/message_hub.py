from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from torch import Tensor

_NO_LIMIT = HistoryBuffer().max_length
#: Numbers of a scalar that wait on the device, where nothing reads them.
_MOST_PENDING = 1000


class DeferredMessageHub(MessageHub):
    """A message hub that enters scalars in their histories when somebody reads them.

    mmengine's waits for the device at every loss of every step, and copies the whole history to
    append a number. Here the tensors of many steps come to the host in one transfer, at the next
    log line or checkpoint, and what is read is the same.

    Attributes:
        train_length: Numbers that a history of training keeps, the latest ones; all of them are in
            each checkpoint.
    """

    def __init__(self, name: str, **kwargs) -> None:
        super().__init__(name, **kwargs)
        self.train_length = _NO_LIMIT
        self._pending: dict[str, list[tuple[float | Tensor, int]]] = {}

    def update_scalar(
        self,
        key: str,
        value: float | np.ndarray | Tensor,
        count: int = 1,
        resumed: bool = True,
    ) -> None:
        """Note a scalar; a tensor must not be changed afterwards.

        Args:
            key: Of the history.
            value: The number; tensors of any shape and device with one element.
            count: The numbers it stands for.
            resumed: Whether checkpoints have the history.
        """
        if key not in self._log_scalars:  # which keeps the order of keys
            super().update_scalar(key, value, count, resumed)
            return
        self._set_resumed_keys(key, resumed)
        if isinstance(value, Tensor):
            assert value.numel() == 1
            value = value.detach()
        else:
            value = self._get_valid_value(value)
        assert isinstance(count, int), f'count is a {type(count).__name__}: {count}'
        self._pending.setdefault(key, []).append((value, count))
        if len(self._pending[key]) == _MOST_PENDING:
            self._enter(list(self._pending))

    @property
    def log_scalars(self) -> OrderedDict[str, HistoryBuffer]:
        """The histories of all scalars, up to date."""
        self._enter(list(self._pending))
        return self._log_scalars

    def get_scalar(self, key: str) -> HistoryBuffer:
        """One history, without a wait for others.

        Raises:
            KeyError: It does not exist.
        """
        if key not in self._log_scalars:
            return super().get_scalar(key)
        self._enter([key])
        return self._log_scalars[key]

    def state_dict(self) -> dict:
        """Return the state for a checkpoint, up to date."""
        self._enter(list(self._pending))
        return super().state_dict()

    def _enter(self, keys: list[str]) -> None:
        pending = {key: self._pending.pop(key) for key in keys if key in self._pending}
        numbers = _on_host([value for entries in pending.values() for value, _ in entries])
        for key, entries in pending.items():
            buffer = self._log_scalars[key]
            if key.startswith('train/'):
                buffer.max_length = self.train_length
            logs, counts = buffer.data
            logs = np.append(logs, [next(numbers) for _ in entries])
            counts = np.append(counts, [count for _, count in entries])
            buffer._log_history = logs[-buffer.max_length :]
            buffer._count_history = counts[-buffer.max_length :]


# mmengine looks for the hub of the run in that of its own class.
DeferredMessageHub._instance_dict = MessageHub._instance_dict


def _on_host(values: list[float | Tensor]) -> Iterator[float]:
    """The numbers, with one transfer for all tensors of a type and device."""
    groups = {}
    for value in values:
        if isinstance(value, Tensor):
            groups.setdefault((value.dtype, value.device), []).append(value.reshape(()))
    numbers = {kind: iter(torch.stack(group).tolist()) for kind, group in groups.items()}
    for value in values:
        yield next(numbers[value.dtype, value.device]) if isinstance(value, Tensor) else value

import torch
from mmpretrain.models import ClsDataPreprocessor

from hsakd.registry import MODELS
from hsakd.structures import BatchedLabels


@MODELS.register_module()
class DataPreprocessor(ClsDataPreprocessor):
    """Preprocess images and leave :class:`~hsakd.structures.BatchedLabels` as they are.

    Its results are those of mmpretrain's, to the bit.

    Args:
        **kwargs: Passed on to mmpretrain.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """Move to the device and normalize.

        Args:
            data: ``inputs`` [N, C, H, W] (uint8) and ``data_samples``, a list or
                :class:`~hsakd.structures.BatchedLabels`.
            training: Whether to augment the batch, where that is asked for.

        Returns:
            The same keys: images of float32, and labels on the device.
        """
        labels = data.get('data_samples')
        if not isinstance(labels, BatchedLabels):
            return super().forward(data, training)
        if self.to_onehot or self.pad_size_divisor > 1:  # scores are kept by sample
            return super().forward(dict(data, data_samples=list(labels)), training)
        inputs = data['inputs'].to(self.device, non_blocking=True)
        if self.to_rgb and inputs.size(1) == 3:
            inputs = inputs.flip(1)
        inputs = inputs.to(torch.float32, copy=self._enable_normalize)
        if self._enable_normalize:
            inputs = inputs.sub_(self.mean).div_(self.std)
        return dict(inputs=inputs, data_samples=labels.to(self.device))

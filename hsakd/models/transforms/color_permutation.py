from itertools import permutations

from torch import Tensor

from hsakd.registry import MODELS

from .transform_set import TransformSet

_ORDERS = list(permutations(range(3)))  # the first is 0, 1, 2


@MODELS.register_module()
class ColorPermutation(TransformSet):
    """M = 6: the orders of the three color channels (https://arxiv.org/abs/1910.05872).

    Channels are permuted as the network sees them, after normalization.
    """

    num_transforms = len(_ORDERS)
    names = [''.join('RGB'[channel] for channel in order) for order in _ORDERS]

    def transform(self, images: Tensor, j: int) -> Tensor:
        """Put the channels in the j-th order."""
        return images[:, _ORDERS[j]] if j else images

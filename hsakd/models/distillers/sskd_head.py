import torch
import torch.nn.functional as F
from torch import Tensor

from hsakd.models.adapters import MLP
from hsakd.models.losses.features import similarity_of_copies
from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS

from .phases import HelperPhase

#: Every image four times, each with a random crop of its own.
FOUR_TIMES = dict(type='RepeatedBatchSampler', views=4)


def rotated(x: Tensor) -> Tensor:
    """Flip images at random, the four copies of one alike, and turn copy j by j quarters.

    Args:
        x: [4 * B, C, H, W], the copies of an image in a row.
    """
    copies = x.unflatten(0, (-1, 4))
    flip = torch.rand(len(copies), device=x.device) < 0.5
    copies = torch.where(flip.view(-1, 1, 1, 1, 1), copies.flip(4), copies)
    return torch.stack([copies[:, j].rot90(j, (2, 3)) for j in range(4)], dim=1).flatten(0, 1)


@MODELS.register_module()
class SSKDHead(HelperPhase):
    """CE(s, image): the first phase of :class:`SSKD`, in which the head g of the teacher learns.

    s are cosines of g(h) of rotated images with those of the images themselves.
    """

    default_weights = dict(loss_ss=1.0)
    taps = ('embedding',)
    batch_sampler = FOUR_TIMES

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        d = self.shapes[0].embedding[0]
        self.head_t = MLP(d, d, d)

    def losses(self, x: Tensor, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Of four copies of each image, see :func:`rotated`."""
        return super().losses(rotated(x), y[::4], batch)

    def compare(self, o: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The term of embeddings [4 * B, D], those of an image's rotations in a row."""
        similarity, right = similarity_of_copies(self.head_t(o.embedding))
        return dict(loss_ss=F.cross_entropy(similarity, right))

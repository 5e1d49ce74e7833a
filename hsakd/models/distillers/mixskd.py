import torch
import torch.nn.functional as F
from mmengine.model import ModuleList
from torch import Tensor

from hsakd.models.adapters import MLP, SelfTeacher
from hsakd.models.losses import KLDivergence
from hsakd.models.method import Batch
from hsakd.models.necks.base import pool
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS
from hsakd.utils.checks import check_numbers

from .base import SelfDistiller


@MODELS.register_module()
class MixSKD(SelfDistiller):
    """CE + mixed CE + KL_3 + feature and critic terms: self-distillation from Mixup (2208.05768).

    A batch is seen with its mixtures x~ = l x + (1 - l) x', x' the same images in another order. Of
    each head k, the network's own and its branches', what x~ gives (~z, ~A) and the mixture of what
    x and x' give (zm, Am) learn from each other; the network's own from a self-teacher on all maps,
    whose logits are u of Am and ~u of ~A.

    Critics learn here, and mixed CE counts, as the paper says: in the published script for CIFAR
    the optimizer has no critics, and ``loss_mixcls`` is left out.

    Args:
        *args: Of :class:`SelfDistiller`; the student has branches.
        alpha: l is drawn from Beta(alpha, alpha), once a batch.
        **kwargs: Of :class:`SelfDistiller`.
    """

    default_weights = dict(loss_cls=1.0, loss_mixcls=1.0, loss_kd=1.0, loss_hint=1.0, loss_gan=1.0)
    taps = ('last_maps',)
    branched = True

    def __init__(self, *args, alpha: float = 0.4, **kwargs) -> None:
        check_numbers(alpha=alpha)
        super().__init__(*args, **kwargs)
        (shapes,) = self.shapes
        channels = [shape[0] for shape in _own_last(shapes.last_maps)]
        self.self_teacher = SelfTeacher(channels, shapes.logits[0])
        self.critic = ModuleList(MLP(number, 128, 2) for number in channels)
        self.alpha, self.kl = alpha, KLDivergence(temperature=3.0)

    def losses(self, x: Tensor, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Draws the mixture; see :meth:`compare`."""
        alpha = torch.tensor(self.alpha)
        lam = float(torch.distributions.Beta(alpha, alpha).sample())
        order = torch.randperm(len(x), device=x.device)
        mixed = lam * x + (1 - lam) * x[order]
        return self.compare(self.student.outputs(torch.cat([x, mixed])), y, batch, lam, order)

    def compare(
        self, o: Outputs, y: Tensor, batch: Batch, lam: float, order: Tensor
    ) -> dict[str, Tensor]:
        """All terms of logits [2 * B, K] and maps [2 * B, C, H, W] of images and their mixtures.

        Args:
            o: The outputs.
            y: Labels [B], or scores [B, K].
            batch: Of the images.
            lam: l.
            order: That of x' [B].
        """

        def mix(a: Tensor) -> Tensor:
            return lam * a + (1 - lam) * a[order]

        def mixed_cls(z: Tensor) -> Tensor:
            return lam * self.cross_entropy(z, y) + (1 - lam) * self.cross_entropy(z, y[order])

        z, mixed_z = zip(*(z.chunk(2) for z in (*o.joint_logits, o.logits)), strict=True)
        maps, mixed_maps = zip(*(a.chunk(2) for a in _own_last(o.last_maps)), strict=True)
        zm, am = [*map(mix, z)], [*map(mix, maps)]
        u, mixed_u = self.self_teacher(am), self.self_teacher(mixed_maps)
        kd = self.kl(zm[-1], mixed_u) + self.kl(mixed_z[-1], u)
        for z_k, mixed_k in zip(zm[:-1], mixed_z[:-1], strict=True):
            kd = kd + self.kl(z_k, mixed_k) + self.kl(mixed_k, z_k)
        pairs = list(zip(am, mixed_maps, strict=True))
        real = F.one_hot(torch.arange(2, device=y.device).repeat_interleave(len(y))).to(u.dtype)
        judged = [c(pool(torch.cat(p))) for c, p in zip(self.critic, pairs, strict=True)]
        return dict(
            loss_cls=sum(self.cross_entropy(z_k, y) for z_k in z),
            loss_mixcls=sum(mixed_cls(z_k) for z_k in (*mixed_z, u, mixed_u)),
            loss_kd=kd,
            loss_hint=sum(F.mse_loss(*pair) for pair in pairs),
            loss_gan=sum(F.binary_cross_entropy_with_logits(z_k, real) for z_k in judged),
        )


def _own_last(maps: tuple) -> tuple:
    """Those of branches, from the first stage on, and then that of the network itself."""
    return (*maps[1:], maps[0])

from torch import Tensor

from hsakd.models.method import Batch
from hsakd.registry import MODELS

from .base import OnlineDistiller, check_compatible, check_joint_losses


@MODELS.register_module()
class HSAKDOnline(OnlineDistiller):
    """Networks that learn the joint task and teach each other, without a teacher (section 3.4).

    Args:
        kd_loss: Config of KL_t.
        **kwargs: Of :class:`OnlineDistiller`; the networks have as many branches, and the same
            transforms.
    """

    default_weights = {
        'loss_cls': 1.0,
        'loss_aux_*': 1.0,
        'loss_kd_logits': 1.0,
        'loss_kd_aux_*': 1.0,
    }

    def __init__(self, *, kd_loss: dict | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.kl = MODELS.build(kd_loss or dict(type='KLDivergence'))
        check_compatible(self, 'branches', 'transforms')
        check_joint_losses(self.trained_networks())

    def losses(self, x: Tensor, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """For every network a, with its peers b as targets without a gradient.

        CE(f_a(x_0), y) + sum_l CE(c_l_a(x_rot), k)
        + mean_b [KL_t(f_a || f_b)(x_rot) + sum_l KL_t(c_l_a || c_l_b)(x_rot)]
        """
        transforms = self.networks[0].transforms
        x_rot = transforms(x)
        outputs = [network.logits(x_rot) for network in self.networks]

        losses = {}
        for a, (network, (f, c)) in enumerate(zip(self.networks, outputs, strict=True)):
            peers = outputs[:a] + outputs[a + 1 :]
            f_0 = f[:: transforms.num_transforms]
            k = network.joint_labels(y)
            losses[f'net{a}_loss_cls'] = network.cross_entropy(f_0, y)
            losses[f'net{a}_loss_kd_logits'] = _mean(self.kl(f, f_b) for f_b, _ in peers)
            for l, c_l in enumerate(c):
                losses[f'net{a}_loss_aux_{l}'] = network.joint_cross_entropy(c_l, k)
                losses[f'net{a}_loss_kd_aux_{l}'] = _mean(self.kl(c_l, c_b[l]) for _, c_b in peers)
        return losses


def _mean(terms) -> Tensor:
    terms = list(terms)
    return sum(terms) / len(terms)

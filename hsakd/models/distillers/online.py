from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModel, ModuleList
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from hsakd.models.losses import LossWeights
from hsakd.models.networks.branched_classifier import build_preprocessor, class_labels
from hsakd.registry import MODELS
from hsakd.utils.errors import ConfigError

from .matching import check_same_outputs


@MODELS.register_module()
class HSAKDOnline(BaseModel):
    """Networks that learn the joint task and teach each other, without a teacher (section 3.4).

    Args:
        networks: Configs of two or more networks, alike or not, with as many branches, and the same
            classes and transforms.
        kd_loss: Config of KL_t.
        loss_weights: Factors of the terms, of every network alike; see :class:`LossWeights`.
        data_preprocessor: Config of mmpretrain's ``ClsDataPreprocessor``.
        init_cfg: Initialisation config.
    """

    def __init__(
        self,
        networks: Sequence[dict],
        kd_loss: dict | None = None,
        loss_weights: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(build_preprocessor(data_preprocessor), init_cfg)
        if not isinstance(networks, list | tuple) or len(networks) < 2:
            found = len(networks) if isinstance(networks, list | tuple) else repr(networks)
            raise ConfigError(
                f'model.networks has {found} networks: accepted is a list of the configs of two or '
                'more, which teach each other'
            )
        self.networks = ModuleList(MODELS.build(network) for network in networks)
        self.kl = MODELS.build(kd_loss or dict(type='KLDivergence'))
        first, *others = self.networks
        for index, other in enumerate(others, 1):
            check_same_outputs(f'model.networks.{index}', other, 'model.networks.0', first)
        branches = range(first.num_branches)
        self.loss_weights = LossWeights(
            loss_weights,
            [
                'loss_cls',
                *(f'loss_aux_{index}' for index in branches),
                'loss_kd_logits',
                *(f'loss_kd_aux_{index}' for index in branches),
            ],
        )

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """For every network a, with its peers b as fixed targets.

        CE(f_a(x_0), y) + sum_l CE(c_l_a(x_rot), k)
        + mean_b [KL_t(f_a || f_b)(x_rot) + sum_l KL_t(c_l_a || c_l_b)(x_rot)]

        Args:
            inputs: [N, C, H, W], not rotated.
            data_samples: With ``gt_label`` y.
        """
        transforms = self.networks[0].transforms
        y = class_labels(data_samples)
        k = transforms.joint_labels(y)
        x_rot = transforms(inputs)
        outputs = [network.logits(x_rot) for network in self.networks]

        losses = {}
        for a, (network, (f, c)) in enumerate(zip(self.networks, outputs, strict=True)):
            peers = outputs[:a] + outputs[a + 1 :]
            f_upright = f[:: transforms.num_transforms]
            terms = dict(
                loss_cls=network.head.loss_module(f_upright, y),
                loss_kd_logits=sum(self.kl(f, f_b) for f_b, _ in peers) / len(peers),
            )
            for index, c_l in enumerate(c):
                terms[f'loss_aux_{index}'] = F.cross_entropy(c_l, k)
                divergences = [self.kl(c_l, c_b[index]) for _, c_b in peers]
                terms[f'loss_kd_aux_{index}'] = sum(divergences) / len(peers)
            terms = self.loss_weights(terms)
            losses |= {f'net{a}_{name}': term for name, term in terms.items()}
        return losses

    def forward(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None, mode: str = 'tensor'
    ) -> tuple[Tensor, tuple[Tensor, ...]] | list[DataSample] | dict[str, Tensor]:
        """'loss' is the distiller's; 'tensor' and 'predict' are the first network's."""
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        return self.networks[0](inputs, data_samples, mode)

    def trained_networks(self) -> dict[str, nn.Module]:
        """The networks that learn, by their keys in the config."""
        return {f'model.networks.{i}': network for i, network in enumerate(self.networks)}

    def frozen_networks(self) -> dict[str, nn.Module]:
        """The networks that others learn from and that do not learn."""
        return {}

    def val_step(self, data: dict) -> list[DataSample]:
        """Predictions of the first network, with those of all in the field ``networks``."""
        data = self.data_preprocessor(data, False)
        inputs, data_samples = data['inputs'], data['data_samples']
        per_network = [
            network.predict_with_branches(inputs, [sample.clone() for sample in data_samples])
            for network in self.networks
        ]
        for sample, predicted in zip(per_network[0], zip(*per_network, strict=True), strict=True):
            sample.set_field([one.to_dict() for one in predicted], 'networks')
        return per_network[0]

    test_step = val_step

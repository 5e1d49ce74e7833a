import torch
from torch import Tensor

from hsakd.registry import OPTIMIZERS


@OPTIMIZERS.register_module()
class SGD(torch.optim.SGD):
    """torch's, which by default is ``fused``: one kernel for all weights.

    Then momentum is there from the start, as zeros, and laid out in memory as the weights are.
    torch's leaves it undefined where the first step overflows under AMP, wants that of all weights
    or of none, and takes its numbers for those of other weights where layouts differ.

    Args:
        params: Weights or groups of them.
        **kwargs: Of torch's; with ``dampening``, whose first step is another one, it is not fused.
    """

    def __init__(self, params, **kwargs) -> None:
        super().__init__(params, **{'fused': None if kwargs.get('dampening') else True, **kwargs})

    def load_state_dict(self, state_dict: dict) -> None:
        """Load what torch's takes; whether steps are fused is a setting of this one."""
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group.update({key: self.defaults[key] for key in ('foreach', 'fused')})

    @torch.no_grad()
    def _init_group(
        self,
        group: dict,
        params: list[Tensor],
        grads: list[Tensor],
        momentum_buffer_list: list[Tensor | None],
    ) -> bool:
        sparse = super()._init_group(group, params, grads, momentum_buffer_list)
        if group['fused']:
            for index, momentum in enumerate(momentum_buffer_list):
                weight = params[index]
                if momentum is None:
                    momentum_buffer_list[index] = torch.zeros_like(weight)
                elif momentum.stride() != weight.stride():
                    momentum_buffer_list[index] = torch.empty_like(weight).copy_(momentum)
                if grads[index].stride() != weight.stride():
                    grads[index] = torch.empty_like(weight).copy_(grads[index])
        return sparse

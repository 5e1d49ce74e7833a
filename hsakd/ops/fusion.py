"""What a compiler does not do by itself: passes over its graphs."""

import torch
from torch import fx
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch.utils.checkpoint import CheckpointPolicy

from . import winograd  # noqa: F401  registers it

_CONV = torch.ops.hsakd.winograd_frozen.default


class FuseEpilogues(CustomGraphPass):
    """Lets frozen Winograd convolutions add another map and apply ReLU, where these follow.

    Maps are then written once instead of two or three times. For inductor's option
    ``post_grad_custom_pre_pass``.
    """

    def __call__(self, graph: fx.Graph) -> None:
        """Change a graph of aten operators, in which nothing is computed in place."""
        for conv in graph.find_nodes(op='call_function', target=_CONV):
            *inputs, residual, relu = conv.args
            chain, user = [conv], _only_user(conv)
            if relu:
                continue
            if residual is None and _adds_map(user):
                (residual,) = (arg for arg in user.args if arg is not conv)
                chain.append(user)
                user = _only_user(user)
            if user is not None and user.target is torch.ops.aten.relu.default:
                relu = True
                chain.append(user)
            if len(chain) == 1:
                continue
            with graph.inserting_before(chain[-1]):
                fused = graph.call_function(_CONV, (*inputs, residual, relu))
            fused.meta.update(chain[-1].meta)
            chain[-1].replace_all_uses_with(fused)
            for node in reversed(chain):
                graph.erase_node(node)

    def uuid(self) -> bytes:
        """Identifies this pass in inductor's cache of graphs."""
        return get_hash_for_files((__file__,))


class RecomputeMasks(CustomGraphPass):
    """Makes the backward pass compare what ReLU gave with 0 by itself.

    To save memory, inductor would store the result of the comparison for some ReLU, as a bool. On
    AVX2 that takes many times longer than all else about a ReLU. For ``joint_custom_post_pass``.
    """

    def __call__(self, graph: fx.Graph) -> None:
        """Mark the comparisons in a graph of forward and backward pass."""
        for node in graph.find_nodes(op='call_function', target=torch.ops.aten.le.Scalar):
            # As torch.utils.checkpoint marks what it recomputes.
            node.meta.update(recompute=CheckpointPolicy.MUST_RECOMPUTE, ac_graph_id=0)

    def uuid(self) -> bytes:
        """Identify this pass in inductor's cache of graphs."""
        return get_hash_for_files((__file__,))


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _adds_map(node: fx.Node | None) -> bool:
    """Whether it adds two different maps of one shape."""
    if node is None or node.target is not torch.ops.aten.add.Tensor or node.kwargs:
        return False
    shapes = {arg.meta['val'].shape for arg in node.args if isinstance(arg, fx.Node)}
    return len(node.all_input_nodes) == 2 and len(shapes) == 1

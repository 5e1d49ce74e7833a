"""What compiled networks keep for their backward pass."""

import torch
from torch import nn
from torch._inductor.custom_graph_pass import CustomGraphPass

from hsakd.ops import RecomputeMasks


class Recorded(CustomGraphPass):
    """Keeps the types of the graphs' results: first those of the forward pass."""

    def __init__(self):
        self.results = []

    def __call__(self, graph):
        (outputs,) = graph.output_node().args
        self.results.append({node.meta['val'].dtype for node in outputs if node is not None})

    def uuid(self):
        return None  # not from the cache, so that it is called


class Block(nn.Module):
    """The end of a ResNet."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(2))

    def forward(self, x):
        y = self.norms[0](self.convs[0](x)).relu()
        return (self.norms[1](self.convs[1](y)) + y).relu().mean((2, 3))


def forward_results(**options):
    """Types of what the forward pass of a block gives, whose gradients are right."""
    recorded, block, x = Recorded(), Block(), torch.randn(2, 4, 5, 5)
    options = dict(post_grad_custom_pre_pass=recorded, **options)
    gradients = []
    for call in (block, torch.compile(block, dynamic=False, options=options)):
        call(x).square().sum().backward()
        gradients.append([parameter.grad for parameter in block.parameters()])
        block.zero_grad()
    for found, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)
    return recorded.results[0]


def test_comparisons_are_not_stored():
    assert torch.bool in forward_results(), 'inductor stores none: RecomputeMasks is not needed'
    torch._dynamo.reset()
    assert torch.bool not in forward_results(joint_custom_post_pass=RecomputeMasks())

"""Strided 1x1 convolutions against torch's."""

import copy

import pytest
import torch
from torch import nn

from hsakd.ops import StridedPointwiseConv2d, supports_product


@pytest.mark.parametrize('compiled', [False, True])
@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('stride', [2, (1, 3)])
def test_outputs_and_gradients_are_those_of_torch(stride, bias, compiled):
    wanted = nn.Conv2d(5, 7, 1, stride, bias=bias).double()
    layer = copy.deepcopy(wanted)
    assert supports_product(layer)
    layer.__class__ = StridedPointwiseConv2d
    call = torch.compile(layer, dynamic=False) if compiled else layer
    results = []
    for each in (wanted, call):
        torch.manual_seed(0)
        x = torch.randn(3, 5, 8, 7).double().to(memory_format=torch.channels_last)
        y = each(x.requires_grad_())
        y.backward(torch.randn(y.shape).double())
        results.append((y, x.grad))
    assert results[1][0].is_contiguous(memory_format=torch.channels_last)
    for found, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(found, expected)
    for found, expected in zip(layer.parameters(), wanted.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad)
    assert list(layer.state_dict()) == list(wanted.state_dict())


@pytest.mark.parametrize(
    'layer',
    [
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, 3, 2),
        nn.Conv2d(4, 4, 1, 2, padding=1),
        nn.Conv2d(4, 4, 1, 2, groups=2),
        nn.ConvTranspose2d(4, 4, 1, 2),
    ],
)
def test_other_layers_are_left_to_torch(layer):
    assert not supports_product(layer)

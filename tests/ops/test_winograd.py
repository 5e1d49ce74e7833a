"""Winograd convolutions against torch's in float64."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hsakd.ops import FrozenWinogradConv2d, FuseEpilogues, WinogradConv2d, supports_winograd
from hsakd.ops import winograd as module
from hsakd.utils.errors import ConfigError

TOLERANCE = 5e-6  # relative; direct convolutions in float32 have 1e-6 and less


def difference(found, wanted):
    return ((found.double() - wanted).norm() / wanted.norm()).item()


@settings(max_examples=50, deadline=None)
@given(
    images=st.integers(1, 5),
    inputs=st.sampled_from([16, 32, 48]),
    outputs=st.sampled_from([16, 32, 80]),
    height=st.integers(1, 13),
    width=st.integers(1, 13),
    stride=st.sampled_from([1, 2]),
    bias=st.booleans(),
    nhwc=st.booleans(),
)
def test_outputs_and_gradients_are_those_of_torch(
    images, inputs, outputs, height, width, stride, bias, nhwc
):
    torch.manual_seed(0)
    layer = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=bias)
    exact = copy.deepcopy(layer).double()
    x = torch.randn(images, inputs, height, width)
    if nhwc:
        x, layer = (
            x.to(memory_format=torch.channels_last),
            layer.to(memory_format=torch.channels_last),
        )
    assert supports_winograd(layer)
    fixed = FrozenWinogradConv2d(layer)
    layer.__class__ = WinogradConv2d
    x_exact = x.double().requires_grad_()
    x.requires_grad_()

    y, y_exact = layer(x), exact(x_exact)
    gradient = torch.randn_like(y)
    y.backward(gradient)
    y_exact.backward(gradient.double())
    assert difference(y, y_exact) < TOLERANCE
    assert difference(fixed(x), y_exact) < TOLERANCE
    assert difference(x.grad, x_exact.grad) < TOLERANCE
    assert difference(layer.weight.grad, exact.weight.grad) < TOLERANCE
    if bias:
        assert difference(layer.bias.grad, exact.bias.grad) < TOLERANCE


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('relu', [False, True])
@pytest.mark.parametrize('residual', [False, True])
def test_what_follows_is_computed_in_the_same_pass(residual, relu, stride):
    layer = nn.Conv2d(16, 32, 3, stride, padding=1)
    fixed = FrozenWinogradConv2d(layer)
    x = torch.randn(2, 16, 11, 14)
    other = torch.randn(2, 32, 11, 14)[:, :, ::stride, ::stride] if residual else None
    wanted = layer.double()(x.double())
    wanted = wanted + other.double() if residual else wanted
    wanted = wanted.relu() if relu else wanted
    found = torch.ops.hsakd.winograd_frozen(x, fixed.weights, fixed.bias, stride, other, relu)
    assert difference(found, wanted) < TOLERANCE


def test_nan_is_not_hidden_by_the_relu():
    fixed = FrozenWinogradConv2d(nn.Conv2d(16, 16, 3, padding=1))
    x = torch.full((1, 16, 4, 4), float('nan'))
    found = torch.ops.hsakd.winograd_frozen(x, fixed.weights, fixed.bias, 1, None, True)
    assert found.isnan().all()


def test_other_types_and_channels_are_refused_or_left_to_torch():
    weight = torch.randn(32, 16, 3, 3)
    x = torch.randn(2, 16, 4, 4)
    for args in (
        (x.double(), weight, 1),
        (x.bfloat16(), weight.bfloat16(), 1),
        (torch.randn(2, 20, 4, 4), torch.randn(24, 20, 3, 3), 1),
        (x, weight, 3),
    ):
        with pytest.raises(ValueError, match='multiples of 16'):
            torch.ops.hsakd.winograd(*args)
    layer = nn.Conv2d(16, 16, 3, padding=1)
    layer.__class__ = WinogradConv2d
    assert layer.double()(x.double()).dtype == torch.float64


def test_tensors_that_do_not_fit_are_refused():
    ops, fixed = torch.ops.hsakd, FrozenWinogradConv2d(nn.Conv2d(16, 32, 3, padding=1))
    x, weight = torch.randn(2, 48, 4, 4), torch.randn(32, 16, 3, 3)
    fit = torch.randn(2, 16, 4, 4)
    for call in (
        lambda: ops.winograd(x, weight, 1),
        lambda: ops.winograd_frozen(x, fixed.weights, fixed.bias, 1, None, False),
        lambda: ops.winograd_frozen(fit, fixed.weights, fixed.bias, 2, None, False),
        lambda: ops.winograd_frozen(fit, fixed.weights, fixed.bias[:16], 1, None, False),
        lambda: ops.winograd_frozen(fit, fixed.weights, None, 1, torch.randn(1, 32, 1, 1), False),
        lambda: ops.winograd_gradient(torch.randn(2, 32, 4, 4), weight, 2, 4, 4),
        lambda: ops.winograd_weight_gradient(fit, torch.randn(2, 32, 2, 2), 1),
    ):
        with pytest.raises(ValueError, match='a tensor of'):
            call()


@pytest.mark.parametrize('stride', [1, 2])
def test_operators_are_what_a_compiler_takes_them_for(stride):
    x, weight = torch.randn(2, 16, 5, 6, requires_grad=True), torch.randn(32, 16, 3, 3)
    torch.library.opcheck(torch.ops.hsakd.winograd, (x, weight.requires_grad_(), stride))
    gradient = torch.randn(2, 32, 5, 6)[:, :, ::stride, ::stride]
    x, weight = x.detach(), weight.detach()
    torch.library.opcheck(torch.ops.hsakd.winograd_gradient, (gradient, weight, stride, 5, 6))
    torch.library.opcheck(torch.ops.hsakd.winograd_weight_gradient, (x, gradient, stride))
    fixed = FrozenWinogradConv2d(nn.Conv2d(16, 32, 3, stride, padding=1))
    args = (x, fixed.weights, fixed.bias, stride, gradient, True)
    torch.library.opcheck(torch.ops.hsakd.winograd_frozen, args)


@pytest.mark.parametrize('stride', [1, 2])
def test_two_runs_give_the_same_bits(stride):
    x = torch.randn(8, 16, 16, 16)
    weight = torch.randn(16, 16, 3, 3, requires_grad=True)
    grads = []
    for _ in range(2):
        y = torch.ops.hsakd.winograd(x, weight, stride)
        grads.append(torch.autograd.grad(y.square().sum(), weight)[0])
    assert torch.equal(*grads)


@pytest.mark.parametrize(
    'layer',
    [
        nn.Conv2d(3, 16, 3, padding=1),
        nn.Conv2d(16, 24, 3, padding=1),
        nn.Conv2d(16, 16, 1),
        nn.Conv2d(16, 16, 3, stride=3, padding=1),
        nn.Conv2d(16, 16, 3, stride=(1, 2), padding=1),
        nn.Conv2d(16, 16, 3, padding=2, dilation=2),
        nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.Conv2d(16, 16, 3, padding=1, padding_mode='circular'),
        nn.Conv2d(16, 16, 3, padding=1).double(),
        nn.Linear(16, 16),
    ],
)
def test_other_layers_are_left_to_torch(layer):
    assert not supports_winograd(layer)


class Block(nn.Module):
    """A residual block whose convolutions are fixed, as compilers see it."""

    def __init__(self):
        super().__init__()
        self.one, self.two = (
            FrozenWinogradConv2d(nn.Conv2d(16, 16, 3, padding=1)) for _ in range(2)
        )

    def forward(self, x):
        out = self.two(self.one(x).relu_())
        out += x
        again = self.one(out.relu())
        return again + again.mean(), again  # used twice: stays as it is


def test_compiled_block_has_additions_and_relus_in_its_convolutions():
    seen = []

    class Recorded(FuseEpilogues):
        def __call__(self, graph):
            super().__call__(graph)
            seen.extend(node for node in graph.nodes if node.op == 'call_function')

        def uuid(self):
            return None  # not from the cache, so that it is called

    block, x = Block(), torch.randn(2, 16, 8, 8)
    with torch.no_grad():
        compiled = torch.compile(block, options=dict(post_grad_custom_pre_pass=Recorded()))
        for found, wanted in zip(compiled(x), block(x), strict=True):
            torch.testing.assert_close(found, wanted)
    convs = [n for n in seen if n.target is torch.ops.hsakd.winograd_frozen.default]
    assert [(n.args[4] is not None, n.args[5]) for n in convs] == [
        (False, True),
        (True, True),
        (False, False),
    ]
    assert not any(n.target is torch.ops.aten.relu.default for n in seen)


def test_what_a_convolution_has_taken_in_stays_when_more_follows():
    class Fused(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = FrozenWinogradConv2d(nn.Conv2d(16, 16, 3, padding=1))

        def forward(self, x):
            args = x, self.conv.weights, self.conv.bias, 1
            one = torch.ops.hsakd.winograd_frozen(*args, None, True) + x
            return (torch.ops.hsakd.winograd_frozen(*args, one, False) + x).relu()

    module, x = Fused(), torch.randn(2, 16, 8, 8)
    with torch.no_grad():
        compiled = torch.compile(module, options=dict(post_grad_custom_pre_pass=FuseEpilogues()))
        torch.testing.assert_close(compiled(x), module(x))


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """An empty folder for compiled operators, and none loaded."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    module.library.cache_clear()
    yield tmp_path
    module.library.cache_clear()


@pytest.mark.parametrize('compiler', ['no-such-compiler', 'false'])
def test_a_machine_that_cannot_compile_is_told_so(compiler, monkeypatch, fresh):
    monkeypatch.setenv('CXX', compiler)
    with pytest.raises(ConfigError, match=f'fast.*{compiler}'):
        module.library()
    assert not list(fresh.rglob('*.so'))


def test_a_folder_that_cannot_be_written_is_named(monkeypatch, fresh):
    (fresh / 'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(fresh / 'file'))
    with pytest.raises(ConfigError, match='XDG_CACHE_HOME'):
        module.library()


def test_compiled_once(fresh):
    module.library()
    (file,) = fresh.rglob('*.so')
    written = file.stat().st_mtime_ns
    module.library.cache_clear()
    module.library()
    assert file.stat().st_mtime_ns == written

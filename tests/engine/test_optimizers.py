"""Our SGD steps as torch's does that is not fused, also where torch's fused one does not."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.optim import build_optim_wrapper
from torch import nn

from hsakd.apis.running import load_config
from hsakd.engine.optimizers import SGD
from tests.conftest import ROOT

SETTINGS = dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-2)


def weights(layout=torch.contiguous_format):
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 3, 3, 3), (4,), (5, 4, 1, 1), (5, 4))
    return [
        nn.Parameter(torch.randn(shape, generator=generator).to(memory_format=layout))
        if len(shape) == 4
        else nn.Parameter(torch.randn(shape, generator=generator))
        for shape in shapes
    ]


def step(optimizer, params, seed, without=()):
    generator = torch.Generator().manual_seed(seed)
    for index, weight in enumerate(params):
        gradient = torch.randn(weight.shape, generator=generator)
        weight.grad = None if index in without else gradient
    optimizer.step()


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@given(
    settings=st.fixed_dictionaries(
        dict(
            momentum=st.sampled_from([0, 0.9]),
            weight_decay=st.sampled_from([0, 1e-2]),
            maximize=st.booleans(),
            dampening=st.sampled_from([0, 0.5]),
        )
    ),
    without=st.lists(st.sets(st.integers(0, 3)), min_size=1, max_size=4),
)
def test_steps_are_those_of_torch(settings, without):
    """With gradients of some weights only, too, and state from one to the other and back."""
    ours, theirs = weights(), weights()
    optimizer = SGD(ours, lr=0.1, **settings)
    expected = torch.optim.SGD(theirs, lr=0.1, foreach=False, **settings)
    for seed, indices in enumerate(without):
        step(optimizer, ours, seed, indices)
        step(expected, theirs, seed, indices)
        assert_same(ours, theirs)
        optimizer.load_state_dict(copy.deepcopy(expected.state_dict()))
    step(optimizer, ours, 99)
    step(expected, theirs, 99)
    assert_same(ours, theirs)


def test_state_of_another_memory_layout():
    ours, theirs = weights(torch.channels_last), weights()
    optimizer, expected = SGD(ours, **SETTINGS), torch.optim.SGD(theirs, **SETTINGS)
    for seed in range(2):
        step(optimizer, ours, seed)
        step(expected, theirs, seed)
        optimizer.load_state_dict(copy.deepcopy(expected.state_dict()))
    assert_same(ours, theirs)


@pytest.mark.parametrize('unfused_before', [False, True])
def test_first_step_that_overflows(unfused_before):
    """Under AMP it is left out, without a trace in the momentum."""
    ours, theirs = weights(), weights()
    optimizer, expected = SGD(ours, **SETTINGS), torch.optim.SGD(theirs, **SETTINGS)
    if unfused_before:
        optimizer.load_state_dict(copy.deepcopy(expected.state_dict()))
    scaler = torch.amp.GradScaler('cpu', init_scale=4.0)
    for factor in (float('inf'), 1.0, 1.0):
        for weight in ours:
            weight.grad = None
        scaler.scale(sum((weight * factor).sum() for weight in ours)).backward()
        scaler.step(optimizer)
        scaler.update()
    for _ in range(2):
        for weight in theirs:
            weight.grad = torch.ones_like(weight)
        expected.step()
    assert_same(ours, theirs)


def test_configs_have_it():
    config = load_config(str(ROOT / 'configs/baseline/wrn-16-2_1xb64-240e_cifar100.py'))
    wrapper = build_optim_wrapper(nn.Linear(1, 1), config.optim_wrapper)
    assert type(wrapper.optimizer) is SGD
    assert wrapper.optimizer.param_groups[0]['fused']

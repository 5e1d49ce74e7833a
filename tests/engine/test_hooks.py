from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from hsakd.engine import NonFiniteLossHook, SetupCheckHook
from hsakd.registry import HOOKS, MODELS
from hsakd.utils.errors import ConfigError, NonFiniteLossError
from tests.conftest import batch, network_cfg


def losses(**values):
    return {name: torch.tensor(value) for name, value in values.items()}


def test_non_finite_loss_is_named_with_its_iteration(tmp_path):
    hook = NonFiniteLossHook()
    runner = SimpleNamespace(iter=6, work_dir=tmp_path, hooks=[], optim_wrapper=None)
    hook.after_train_iter(runner, 0, outputs=losses(loss=2.0, loss_cls=2.0))
    runner.iter = 7
    bad = losses(loss=float('nan'), loss_cls=1.0, loss_kd_aux_1=float('nan'))
    with pytest.raises(NonFiniteLossError, match='^loss_kd_aux_1 is nan at iteration 8;'):
        hook.after_train_iter(runner, 1, outputs=bad)


def test_on_an_accelerator_it_looks_before_anything_is_saved(tmp_path):
    hook = NonFiniteLossHook(interval=100)
    runner = SimpleNamespace(iter=0, work_dir=tmp_path)
    # What after_train_iter keeps where each look would cost a synchronization.
    hook._pending = [(1, losses(loss=1.0)), (2, losses(loss=float('inf'))), (3, losses(loss=1.0))]
    with pytest.raises(NonFiniteLossError, match='^loss is inf at iteration 2;'):
        hook.before_save_checkpoint(runner, {})


def test_spoiled_weights_are_found_before_they_replace_good_ones(tmp_path):
    hook, model = NonFiniteLossHook(), nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    runner = SimpleNamespace(work_dir=tmp_path, model=model, hooks=[])
    hook.after_train_epoch(runner)
    model[1].running_var[1] = float('inf')
    for look in (hook.after_train_epoch, hook.before_val):
        with pytest.raises(NonFiniteLossError, match='^1 weights .* e.g. 1.running_var; training'):
            look(runner)


class ScaledOnCPU(AmpOptimWrapper):
    """mmengine's wrapper, whose constructor wants a GPU."""

    def __init__(self, optimizer, init_scale):
        OptimWrapper.__init__(self, optimizer)
        self._scale_update_param = None
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=init_scale)


def test_gradients_that_overflow_at_every_step(tmp_path):
    """The loss is finite all the while, and no weight changes."""
    hook, model = NonFiniteLossHook(), nn.Linear(1, 1)
    scaled = ScaledOnCPU(torch.optim.SGD(model.parameters(), lr=1.0), init_scale=4.0)
    runner = SimpleNamespace(iter=0, work_dir=tmp_path, hooks=[], optim_wrapper=scaled)

    def step(overflows):
        scaled.zero_grad()
        loss = model(torch.ones(1, 1)).mean()
        scaled.backward(loss)
        if overflows:
            model.weight.grad.fill_(float('inf'))
        scaled.step()
        hook.after_train_iter(runner, 0, outputs=dict(loss=loss.detach()))
        runner.iter += 1

    before = model.weight.item()
    step(overflows=False)
    assert model.weight.item() == before - 1
    step(overflows=True)
    step(overflows=True)  # a scale of 1: some overflows are what the scaling is for
    with pytest.raises(NonFiniteLossError, match='^the loss scale of AMP fell to 0.5 by iter.* 4:'):
        step(overflows=True)
    assert model.weight.item() == before - 1


class Data(TensorDataset):
    def __init__(self, images, classes):
        super().__init__(torch.zeros(images, 1))
        self.metainfo = dict(classes=classes)


def runner(model, images=10, classes=tuple('abcde'), val_classes=None, metrics=(), **loader):
    data = DataLoader(Data(images, classes), **{'batch_size': 4, **loader})
    val = DataLoader(Data(10, val_classes or classes), batch_size=4)
    return SimpleNamespace(
        cfg=Config(),
        model=model,
        train_dataloader=data,
        val_dataloader=val,
        val_loop=object(),
        val_evaluator=Evaluator(list(metrics)),
    )


@pytest.mark.parametrize(
    'kwargs, words',
    [
        (dict(batch_size=1), 'train_dataloader.batch_size: .* got 1$'),
        (dict(images=9), 'train_dataloader.batch_size: .* 9 images .* got 4'),
        (dict(images=1), 'images of train_dataloader.dataset: .* got 1'),
        (dict(images=3, drop_last=True), 'train_dataloader.batch_size: .* 3, .* got 4'),
        (dict(classes=tuple('abcd')), 'train_dataloader.dataset: expected 5 .* got 4'),
        (dict(val_classes=tuple('abcdef')), r"val_dataloader.dataset: .* got also \['f'\]"),
        (dict(val_classes=tuple('abdce')), "val_dataloader.dataset: .* got 'd' in .* 'c'"),
    ],
)
@pytest.mark.parametrize('offline', [False, True])
def test_setup_that_cannot_work(kwargs, words, offline):
    model = MODELS.build(network_cfg())
    if offline:
        cfg = dict(type='HSAKDOffline', student=network_cfg(), teacher=network_cfg())
        model = MODELS.build(cfg)
    with pytest.raises(ConfigError, match=words):
        SetupCheckHook().before_train(runner(model, **kwargs))


@pytest.mark.parametrize('kwargs', [dict(), dict(images=9, drop_last=True), dict(images=8)])
def test_setup_that_works(kwargs):
    SetupCheckHook().before_train(runner(MODELS.build(network_cfg()), **kwargs))
    SetupCheckHook().before_train(runner(nn.Linear(1, 5), batch_size=1))  # without batch norm


@pytest.mark.parametrize('offline', [False, True])
def test_head_for_other_features(offline):
    """The check leaves statistics, modes and random numbers as they are."""
    network = network_cfg()
    model = MODELS.build(
        dict(type='HSAKDOffline', student=network, teacher=network_cfg()) if offline else network
    )
    model.train()
    inputs, samples = batch()
    checked = SimpleNamespace(model=model)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    SetupCheckHook().before_train_iter(checked, 0, dict(inputs=inputs, data_samples=samples))
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)

    network = model.student if offline else model
    network.head.in_channels = 17
    key = 'model.student' if offline else 'model'
    with pytest.raises(ConfigError, match=rf'^{key}.head.in_channels: expected 16, .* got 17'):
        SetupCheckHook().before_train_iter(checked, 0, dict(inputs=inputs, data_samples=samples))


def test_early_stopping_by_a_metric_that_is_not_there():
    """It would never stop."""
    hook = HOOKS.build(dict(type='EarlyStoppingHook', monitor='acc'))
    with pytest.raises(ConfigError, match='monitor: expected one of accuracy/top1, got acc'):
        hook.after_val_epoch(None, {'accuracy/top1': 3.0})

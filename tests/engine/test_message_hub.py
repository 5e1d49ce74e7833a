"""The message hub holds what mmengine's would, and no step waits for a device to fill it."""

import itertools
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.runner import LogProcessor, Runner
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hsakd.apis.running import load_config
from hsakd.engine.message_hub import DeferredMessageHub
from hsakd.engine.runner import DistillationRunner
from hsakd.registry import MODELS
from tests.conftest import ROOT

CONFIG = str(ROOT / 'configs/hsakd/hsakd-offline_wrn-16-2_wrn-10-1_1xb64-80e_digits.py')

_READS = ('item', 'tolist', 'numpy', 'cpu', 'nonzero', 'is_nonzero', 'equal')
_READS += ('__bool__', '__float__', '__int__', '__index__')
_TO_HOST = {
    getattr(place, name) for place in (Tensor, torch) for name in _READS if hasattr(place, name)
}


class HostReads(TorchFunctionMode):
    """Counts calls by which the host reads a tensor, for which it waits for an accelerator."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += func in _TO_HOST
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def _hubs_of_this_test():
    MessageHub._instance_dict.clear()
    yield
    MessageHub._instance_dict.clear()


numbers = st.floats(-10, 10, width=16)
scalars = st.one_of(
    numbers,
    st.integers(-5, 5),
    numbers.map(np.float32),
    numbers.map(lambda x: np.array([x])),
    numbers.map(torch.tensor),
    numbers.map(lambda x: torch.tensor([x], dtype=torch.float64, requires_grad=True)),
    numbers.map(lambda x: torch.tensor(x, dtype=torch.bfloat16)),
    st.integers(-5, 5).map(torch.tensor),
)
events = st.one_of(
    st.tuples(st.just('update'), st.sampled_from('abc'), scalars, st.integers(1, 3)),
    st.tuples(st.just('read'), st.sampled_from('abc')),
    st.just(('resume',)),
)


def _resumed(hub):
    new = type(hub)(hub.instance_name)
    new.load_state_dict(pickle.loads(pickle.dumps(hub.state_dict())))
    return new


@given(st.lists(events, max_size=30))
def test_histories_are_those_of_mmengine(sequence):
    ours, theirs = DeferredMessageHub('ours'), MessageHub('theirs')
    for kind, *args in sequence:
        if kind == 'update':
            key, value, count = args
            ours.update_scalar(key, value, count)
            theirs.update_scalar(key, value, count)
        elif kind == 'read' and args[0] in theirs.log_scalars:
            assert ours.get_scalar(*args).current() == theirs.get_scalar(*args).current()
        elif kind == 'resume':
            ours, theirs = _resumed(ours), _resumed(theirs)
    assert list(ours.log_scalars) == list(theirs.log_scalars)
    for key, history in theirs.log_scalars.items():
        for found, expected in zip(ours.log_scalars[key].data, history.data, strict=True):
            np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize(
    'custom, kept',
    [
        ([], 1000),
        ([dict(data_src='loss', method_name='mean', window_size=1500)], 1500),
        ([dict(data_src='loss', method_name='mean', window_size='global')], 2000),
        ([dict(data_src='loss', method_name='min')], 2000),
    ],
)
def test_histories_are_as_long_as_the_log_wants(custom, kept):
    runner = SimpleNamespace(experiment_name='x', log_processor=LogProcessor(custom_cfg=custom))
    hub = DistillationRunner.build_message_hub(runner)
    assert MessageHub.get_current_instance() is hub
    for step in range(2000):
        hub.update_scalars({'train/loss': float(step), 'val/time': float(step)})
    logs, counts = hub.state_dict()['log_scalars']['train/loss'].data
    assert logs.tolist() == list(range(2000 - kept, 2000))
    assert len(counts) == kept
    assert len(hub.get_scalar('val/time').data[0]) == 2000


class _Tiny(BaseModel):
    """Seven losses, as many as a student with three branches and a head may have."""

    def __init__(self, data_preprocessor):
        super().__init__(data_preprocessor)
        self.linear = nn.Linear(3, 7)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        out = self.linear(inputs.mean((2, 3))).sigmoid().mean(0)
        return {f'loss_{index}': term for index, term in enumerate(out.unbind())}


_numbers = itertools.count()  # of runs, which mmengine knows by name


class _Prepare(Hook):
    priority = 'LOWEST'

    def __init__(self, prepare):
        self.before_train = prepare


def _train(folder, steps, prepare):
    """Train a tiny model on digits, with hooks as on an accelerator; (logged, reads)."""
    logged, reads = [], []

    def prepared(runner):
        for hook in runner.hooks:
            if type(hook).__name__ in ('NonFiniteLossHook', 'PreemptionHook'):
                hook.interval = 50
        run_iter, add_scalars = runner.train_loop.run_iter, runner.visualizer.add_scalars

        def one_step(*args):
            with HostReads() as mode:
                run_iter(*args)
            if mode.count:
                reads.append(runner.iter)

        def log(tag, **kwargs):
            logged.append({key: value for key, value in tag.items() if 'time' not in key})
            add_scalars(tag, **kwargs)

        runner.train_loop.run_iter = one_step
        runner.visualizer.add_scalars = log
        prepare(runner)

    config = load_config(CONFIG)
    loader = config.train_dataloader
    config.work_dir = str(folder)
    config.model = dict(type='_Tiny', data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor'))
    for part in ('cfg', 'dataloader', 'evaluator'):
        config[f'val_{part}'] = config[f'test_{part}'] = None
    config.train_dataloader = dict(
        dataset=dict(type='RepeatDataset', times=-(-steps * 4 // 200), dataset=loader.dataset),
        sampler=loader.sampler,
        collate_fn=dict(type='default_collate'),
        batch_size=4,
        num_workers=0,
    )
    config.train_cfg = dict(by_epoch=True, max_epochs=1)
    config.custom_hooks = [h for h in config.custom_hooks if h.type != 'SetupCheckHook']
    config.experiment_name = f'message-hub-{next(_numbers)}'
    config.log_level = 'WARNING'
    runner = DistillationRunner.from_cfg(config)
    runner.register_hook(_Prepare(prepared))
    runner.train()
    return logged, reads


def test_no_step_waits_between_lines_of_the_log(monkeypatch, tmp_path):
    """Which say what they say with mmengine's message hub, and after a resume."""
    MODELS.register_module(module=_Tiny, force=True)
    checkpoints = []

    def save_at_60(runner):
        run_iter = runner.train_loop.run_iter

        def one_step(*args):
            run_iter(*args)
            if runner.iter == 60:
                checkpoints.append(pickle.dumps(runner.message_hub.state_dict()))

        runner.train_loop.run_iter = one_step

    logged, reads = _train(tmp_path, 150, save_at_60)
    assert reads == [1, 50, 100, 150]
    assert [entry['iter'] for entry in logged] == [50, 100, 150]
    assert {'lr', 'loss', 'loss_0'} < logged[0].keys()

    def forget_before_61(runner):
        """The scalars of the steps before are those of the checkpoint alone."""
        run_iter = runner.train_loop.run_iter

        def one_step(*args):
            if runner.iter == 60:
                runner.message_hub._pending.clear()
                runner.message_hub.log_scalars.clear()
                runner.message_hub.load_state_dict(pickle.loads(checkpoints[0]))
            run_iter(*args)

        runner.train_loop.run_iter = one_step

    assert _train(tmp_path, 150, forget_before_61) == (logged, reads)

    monkeypatch.setattr(DistillationRunner, 'build_message_hub', Runner.build_message_hub)
    of_mmengine, reads = _train(tmp_path, 150, lambda runner: None)
    assert of_mmengine == logged
    assert reads == list(range(1, 151))

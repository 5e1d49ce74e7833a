"""Several processes compute what one computes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.model import convert_sync_batchnorm
from torch import nn

from hsakd.engine import distributed
from hsakd.utils.errors import ConfigError
from tests.engine import distributed_worker as worker

TRAINED = ('baseline', 'teacher', 'offline', 'online')


def launch(processes, folder, *cases):
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone']
    result = subprocess.run(
        [*command, f'--nproc-per-node={processes}', Path(worker.__file__), folder, str(processes),
         *cases],
        capture_output=True, text=True, timeout=250, check=False,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return {
        case: torch.load(folder / f'{case.replace(":", "_")}.pth', weights_only=False)
        for case in cases
    }


@pytest.fixture(scope='module')
def with_two(tmp_path_factory):
    """What two processes give, by case."""
    trained = [f'train:{name}{variant}' for name in TRAINED for variant in ('', '+clipped')]
    trained += [f'train:{name}+accumulated' for name in TRAINED]
    tested = [f'test:{name}' for name in ('offline', 'online')]
    folder = tmp_path_factory.mktemp('two')
    return launch(2, folder, *trained, 'train:teacher+train_mode', *tested)


def difference(one, other):
    assert one.keys() == other.keys()
    return max((one[key] - other[key]).abs().max().item() for key in one)


@pytest.mark.parametrize('name', TRAINED)
@pytest.mark.parametrize('variant', ['', '+clipped'])
def test_two_processes_equal_one(name, variant, with_two, tmp_path):
    two = with_two[f'train:{name}{variant}']
    one = worker.train(name + variant, 'none', tmp_path)
    before = worker.build_model(name).state_dict()
    assert difference(before, one['weights']) > 1e-3
    assert difference(two['weights'], one['weights']) < 1e-9
    assert len(one['losses']) == len(two['losses']) == 2 * worker.BATCHES
    assert max(map(difference, one['losses'], two['losses'])) < 1e-9
    if variant:
        free = worker.train(name, 'none', tmp_path)
        assert difference(free['weights'], one['weights']) > 1e-3


@pytest.mark.parametrize('name', TRAINED)
def test_accumulated_gradients_equal_a_larger_batch(name, with_two, tmp_path):
    whole = worker.train(name, 'none', tmp_path)
    accumulated = worker.train(f'{name}+accumulated', 'none', tmp_path)
    assert len(accumulated['losses']) == 2 * len(whole['losses'])
    assert difference(whole['weights'], accumulated['weights']) < 1e-9
    two = with_two[f'train:{name}+accumulated']
    assert difference(whole['weights'], two['weights']) < 1e-9


def test_statistics_of_each_process_make_a_difference(with_two, tmp_path):
    one = worker.train('teacher+train_mode', 'none', tmp_path)
    two = with_two['train:teacher+train_mode']
    assert difference(two['weights'], one['weights']) > 1e-6


def test_metrics_of_an_uneven_data_set(with_two, tmp_path):
    three = launch(3, tmp_path, 'test:offline', 'test:online')
    for name in ('offline', 'online'):
        one = worker.test(name, 'none', tmp_path)
        assert len(one) >= 8 and 0 < one['accuracy/top2'] < 100
        assert with_two[f'test:{name}'] == three[f'test:{name}'] == one


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
    """A group of one process."""
    file = tmp_path_factory.mktemp('group') / 'store'
    torch.distributed.init_process_group(
        'gloo', store=torch.distributed.FileStore(str(file), 1), rank=0, world_size=1
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('LOCAL_RANK', '0')
        yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize('name', list(worker.MODEL_CFGS))
def test_every_parameter_that_is_reduced_has_a_gradient(name, alone, tmp_path):
    runner = worker.build_runner(worker.build_model(name), 'pytorch', tmp_path)
    reduced, _ = runner.model._build_params_for_reducer()
    loader = runner.build_dataloader(worker.loader(4, 4))
    data = runner.model.module.data_preprocessor(next(iter(loader)), True)
    for _ in range(2):  # torch would complain of the first at the second
        losses = runner.model(**data, mode='loss')
        loss, _ = runner.model.module.parse_losses(losses)
        loss.backward()
    assert reduced and all(parameter.grad is not None for parameter in reduced)
    learning = [p for p in runner.model.parameters() if p.requires_grad]
    assert len(learning) == len(reduced)


@pytest.mark.parametrize(
    'name, frozen',
    [
        ('teacher', ()),
        ('online', ()),
        ('frozen', ('backbone.', 'head.')),
        ('linear', ('backbone.',)),
        ('offline', ('teacher.',)),
    ],
)
def test_frozen_parts_are_left_out(name, frozen, alone, tmp_path):
    model = worker.build_model(name)
    runner = worker.build_runner(model, 'pytorch', tmp_path)
    names = [name for name, _ in (*model.named_parameters(), *model.named_buffers())]
    expected = {name for name in names if name.startswith(frozen)} if frozen else set()
    assert runner.model.parameters_to_ignore == expected
    assert bool(expected) == bool(frozen)


def test_statistics_are_those_of_the_first_process(monkeypatch):
    sent = []
    monkeypatch.setattr(distributed, 'broadcast', sent.append)
    model = worker.build_model('offline')
    model.student.register_buffer('memory', torch.zeros(3))  # no statistics of a norm
    runner = type('Runner', (), dict(model=model))
    distributed.SharedStatisticsHook().before_val_epoch(runner)
    wanted = [b for n, b in model.student.named_buffers() if 'running_' in n]
    assert {id(buffer) for buffer in sent} == {id(buffer) for buffer in wanted} and sent


def test_sync_bn(alone, tmp_path):
    model = worker.build_model('offline')
    keys = list(model.state_dict())
    converted = convert_sync_batchnorm(model, 'torch')
    norms = [m for m in converted.student.modules() if isinstance(m, nn.SyncBatchNorm)]
    assert norms and not any(type(m) is nn.BatchNorm2d for m in converted.modules())
    assert list(converted.state_dict()) == keys
    cfg = dict(sync_bn='torch')
    with pytest.raises(ConfigError, match="sync_bn: .* got 'torch'"):
        worker.build_runner(worker.build_model('offline'), 'pytorch', tmp_path, cfg=cfg)


@pytest.mark.parametrize(
    'cfg, words',
    [
        (
            dict(model_wrapper_cfg=dict(type='MMFullyShardedDataParallel')),
            "model_wrapper_cfg.type: .* got 'MMFullyShardedDataParallel'",
        ),
        (dict(strategy=dict(type='DeepSpeedStrategy')), 'strategy: .* got .*DeepSpeedStrategy'),
    ],
)
def test_sharded_parameters_are_refused(cfg, words, alone, tmp_path):
    with pytest.raises(ConfigError, match=words):
        worker.build_runner(worker.build_model('teacher'), 'pytorch', tmp_path, cfg=cfg)


def test_a_wrapper_of_the_config_on_the_cpu(alone, tmp_path):
    wrapper = dict(type='MMDistributedDataParallel', find_unused_parameters=True)
    cfg = dict(model_wrapper_cfg=wrapper)
    runner = worker.build_runner(worker.build_model('teacher'), 'pytorch', tmp_path, cfg=cfg)
    assert runner.model.find_unused_parameters and runner.model.device_ids is None

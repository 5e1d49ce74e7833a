"""Starting from weights by ``load_from``, and the hooks that every run has."""

import logging
import uuid

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.logging import MMLogger
from torch import nn

from hsakd.engine import CheckpointHook, NonFiniteLossHook, hooks
from hsakd.engine.runner import DistillationRunner
from hsakd.registry import MODELS
from hsakd.utils.errors import CheckpointError
from tests.conftest import network_cfg
from tests.imagenet_files import save_torchvision


@pytest.fixture
def start_from(tmp_path):
    """Build a model and load a file into it as ``load_from`` does: the model and what is logged."""
    messages = []

    class Keep(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())

    handler = Keep()

    def load(model_cfg, path):
        runner = DistillationRunner(
            model=MODELS.build(model_cfg),
            work_dir=str(tmp_path / 'work'),
            default_scope='hsakd',
            experiment_name=str(uuid.uuid4()),
        )
        runner.logger.addHandler(handler)
        runner.load_checkpoint(str(path))
        return runner.model, messages

    yield load
    MMLogger.get_current_instance().removeHandler(handler)


def resnet(depth=18, num_classes=3, **kwargs):
    cfg = network_cfg(num_classes=num_classes, **kwargs)
    cfg['backbone'] = dict(type='mmpretrain.ResNet', depth=depth)
    cfg['head']['in_channels'] = 512
    return cfg


def equal(network, weights):
    ours = network.backbone.state_dict()
    return all(torch.equal(ours[k], v) for k, v in weights.items() if not k.startswith('fc.'))


@pytest.mark.parametrize(
    'cfg, networks',
    [
        (resnet(branches=False), lambda model: [model]),
        (dict(resnet(), type='HSAKDTeacher'), lambda model: [model]),
        (
            dict(type='HSAKDOffline', student=resnet(), teacher=resnet()),
            lambda model: [model.student],
        ),
        (dict(type='HSAKDOnline', networks=[resnet(), resnet()]), lambda model: model.networks),
    ],
    ids=['plain', 'teacher', 'offline', 'online'],
)
def test_torchvision_starts_every_network_under_training(cfg, networks, tmp_path, start_from):
    theirs = save_torchvision(tmp_path / 'weights.pth').state_dict()
    model, messages = start_from(cfg, tmp_path / 'weights.pth')
    for network in networks(model):
        assert equal(network, theirs)
        assert torch.equal(network.head.fc.weight, theirs['fc.weight'])
    assert any('weights loaded from' in message for message in messages)
    starts_afresh = [message for message in messages if 'starts afresh' in message]
    if cfg['type'] == 'BranchedClassifier':
        assert not starts_afresh
    else:
        assert 'branches.0' in starts_afresh[0]


def test_a_head_for_other_classes_starts_afresh(tmp_path, start_from):
    theirs = save_torchvision(tmp_path / 'weights.pth', num_classes=10).state_dict()
    model, messages = start_from(resnet(branches=False), tmp_path / 'weights.pth')
    assert equal(model, theirs) and model.head.fc.weight.shape == (3, 512)
    assert 'the checkpoint has 10 classes, the config 3' in messages[-1]


def test_our_checkpoints(tmp_path, start_from):
    teacher = MODELS.build(dict(network_cfg(), type='HSAKDTeacher'))
    offline = dict(type='HSAKDOffline', student=network_cfg(), teacher=network_cfg())
    online = dict(type='HSAKDOnline', networks=[network_cfg(), network_cfg()])
    saved = {}
    for name, model in (
        ('teacher', teacher),
        ('offline', MODELS.build(offline)),
        ('online', MODELS.build(online)),
    ):
        saved[name] = model.state_dict()
        torch.save(dict(state_dict=saved[name], meta=dict(epoch=1)), tmp_path / name)
    same = {name: value for name, value in saved['teacher'].items()}

    for name, cfg in (('teacher', network_cfg()), ('offline', offline), ('online', online)):
        model, _ = start_from(cfg, tmp_path / name)
        loaded = model.state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in saved[name].items())
    model, messages = start_from(offline, tmp_path / 'teacher')  # into the student
    assert all(torch.equal(model.student.state_dict()[key], value) for key, value in same.items())
    assert not any('starts afresh' in message for message in messages)
    model, messages = start_from(network_cfg(branches=False), tmp_path / 'online')
    assert torch.equal(model.head.fc.weight, saved['online']['networks.0.head.fc.weight'])
    assert 'weights of the checkpoint have no place: branches.0' in messages[-1]


@pytest.mark.parametrize(
    'name, words',
    [
        ('resnet34', 'have no place'),
        ('resnet50', 'another shape'),
        ('mobilenet_v2', 'are missing from the checkpoint'),
    ],
)
def test_a_backbone_that_does_not_fit_is_refused(name, words, tmp_path, start_from):
    save_torchvision(tmp_path / 'weights.pth', name)
    with pytest.raises(CheckpointError, match=f"load_from='.*weights.pth'.*{words}"):
        start_from(resnet(branches=False), tmp_path / 'weights.pth')
    with pytest.raises(CheckpointError, match='gone.pth.*no such file'):
        start_from(resnet(branches=False), tmp_path / 'gone.pth')
    gone = tmp_path / 'resnet20_1xb64-240e_cifar100' / 'seed-0' / 'epoch_240.pth'
    with pytest.raises(CheckpointError, match='baseline/resnet20_1xb64-240e_cifar100.py trains it'):
        start_from(resnet(branches=False), gone)


@pytest.mark.parametrize('scope', ['hsakd', 'mmdet'])
@pytest.mark.parametrize('kind', ['CheckpointHook', 'mmengine.CheckpointHook', None])
def test_every_run_has_the_hooks_that_keep_it_safe(scope, kind, tmp_path):
    """One that a config lists is the only one of its kind."""
    listed = [
        dict(type='EMAHook', momentum=1e-4),
        dict(type='hsakd.NonFiniteLossHook', interval=7),
        dict(type='EarlyStoppingHook', monitor='accuracy/top1'),
    ]
    default = dict(checkpoint=dict(type=kind, interval=3)) if kind else {}
    runner = DistillationRunner(
        model=nn.Linear(1, 1),
        work_dir=str(tmp_path),
        default_scope=scope,
        default_hooks=default,
        custom_hooks=listed,
        experiment_name=str(uuid.uuid4()),
    )
    kinds = [type(hook) for hook in runner.hooks]
    wanted = {getattr(hooks, name) for name in hooks.__all__} | {EMAHook}
    assert all(kinds.count(kind) == 1 for kind in wanted)
    by_kind = {type(hook): hook for hook in runner.hooks}
    assert by_kind[NonFiniteLossHook].interval == 7
    assert by_kind[CheckpointHook].interval == (3 if kind else 1)

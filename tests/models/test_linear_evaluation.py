import pytest
import torch
from mmengine.optim import OptimWrapper

from hsakd.registry import MODELS
from hsakd.utils.errors import CheckpointError, ConfigError
from tests.conftest import batch, network_cfg


def linear(**kwargs):
    return MODELS.build(network_cfg(branches=False, type='LinearEvaluation', **kwargs))


def steps(model, number=2):
    """Steps of training on the same batch; the losses."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = OptimWrapper(torch.optim.SGD(parameters, lr=0.1))
    inputs, samples = batch(8)
    model.train()
    return [
        model.train_step(dict(inputs=inputs, data_samples=samples), optimizer)['loss'].item()
        for _ in range(number)
    ]


@pytest.fixture
def student(tmp_path):
    """A trained student with branches of 7 classes, whose batch norm has seen data."""
    model = MODELS.build(network_cfg(num_classes=7))
    model.train()(batch(8)[0])
    path = tmp_path / 'student.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return path, model


@pytest.mark.parametrize('prefix', ['', 'student.', 'networks.0.'])
def test_backbone_of_any_checkpoint(student, tmp_path, prefix):
    path, trained = student
    weights = {prefix + key: value for key, value in trained.state_dict().items()}
    torch.save(dict(state_dict=weights), tmp_path / 'checkpoint.pth')
    model = linear(backbone_ckpt=str(tmp_path / 'checkpoint.pth'))
    model.init_weights()
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, trained.backbone.state_dict()[key]), key
    assert model.head.fc.weight.shape == (5, 16)


def test_the_head_alone_learns(student):
    path, trained = student
    model = linear(backbone_ckpt=str(path))
    model.init_weights()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    losses = steps(model, 5)
    assert losses[-1] < losses[0]
    changed = {k for k, value in model.state_dict().items() if not torch.equal(value, before[k])}
    assert changed == {'head.fc.weight', 'head.fc.bias'}


def test_backbone_is_in_eval_mode_and_keeps_no_graph():
    model = linear()
    for mode in (True, False, True):
        model.train(mode)
        assert not any(module.training for module in model.backbone.modules())
        assert model.head.training == mode
    assert not any(module.training for module in linear().backbone.modules())
    assert model.extract_feat(batch()[0])[-1].grad_fn is None
    assert [name for name, p in model.named_parameters() if p.requires_grad] == [
        'head.fc.weight',
        'head.fc.bias',
    ]


def test_outputs_are_those_of_a_plain_classifier(student):
    path, trained = student
    model = linear(backbone_ckpt=str(path))
    model.init_weights()
    model.eval()
    plain = MODELS.build(network_cfg(branches=False)).eval()
    plain.load_state_dict(model.state_dict())
    inputs, samples = batch(4)
    assert torch.equal(model(inputs)[0], plain(inputs)[0])
    assert model(inputs, samples, mode='predict')[0].pred_score.shape == (5,)


def test_training_without_weights_is_an_error():
    model = linear()
    model.init_weights()
    with pytest.raises(ConfigError, match=r'model\.backbone_ckpt.*None'):
        steps(model)


def test_a_caller_may_load_weights(student):
    model = linear()
    model.load_state_dict(linear().state_dict())
    steps(model)


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda path: path.unlink(), 'no such file'),
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), 'truncated perhaps'),
        (lambda path: torch.save(dict(state_dict={}), path), 'state_dict'),
        (
            lambda path: torch.save(
                dict(state_dict=MODELS.build(network_cfg(width=8)).state_dict()), path
            ),
            'weights have another shape: backbone.',
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit(student, change, words):
    path, _ = student
    change(path)
    model = linear(backbone_ckpt=str(path))
    with pytest.raises(CheckpointError, match=r'model\.backbone_ckpt') as raised:
        model.init_weights()
    assert words in str(raised.value)

"""Scores of classes instead of labels: mixed images, soft labels, class weights, smoothing."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample

from hsakd.models.transforms import Rotation
from hsakd.registry import MODELS
from hsakd.structures import BatchedLabels
from hsakd.utils.errors import ConfigError
from tests.conftest import batch, network_cfg

CLASSES = 5
MIXTURES = {
    'mixup': dict(augments=dict(type='mmpretrain.Mixup', alpha=0.8)),
    'cutmix': dict(augments=dict(type='mmpretrain.CutMix', alpha=1.0)),
    'resizemix': dict(augments=dict(type='mmpretrain.ResizeMix', alpha=1.0)),
    'any': dict(
        augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)], probs=[0.5, 0.3]
    ),
}
CE = 'mmpretrain.CrossEntropyLoss'
SMOOTH = 'mmpretrain.LabelSmoothLoss'
LOSSES = {
    'plain': dict(type=CE),
    'use_soft': dict(type=CE, use_soft=True),
    'use_sigmoid': dict(type=CE, use_sigmoid=True),
    'weights': dict(type=CE, class_weight=[1.0, 2.0, 0.5, 3.0, 1.5]),
    'smoothing': dict(type=SMOOTH, label_smooth_val=0.1),
    'classy': dict(type=SMOOTH, label_smooth_val=0.2, mode='classy_vision'),
    'focal': dict(type='mmpretrain.FocalLoss'),
}


def head(**loss):
    cfg = network_cfg(num_classes=CLASSES)['head']
    return dict(cfg, loss=dict(cfg['loss'], **loss))


def models(loss=None, **preprocessor):
    """A baseline of mmpretrain and ours, with the same weights."""
    cfg = network_cfg(branches=False, head=head(**(loss or {})))
    settings = dict(mean=[100.0] * 3, std=[50.0] * 3, **preprocessor)
    ours = MODELS.build(dict(cfg, data_preprocessor=copy.deepcopy(settings)))
    settings |= dict(type='mmpretrain.ClsDataPreprocessor', num_classes=CLASSES)
    theirs = MODELS.build(dict(cfg, type='mmpretrain.ImageClassifier', data_preprocessor=settings))
    theirs.load_state_dict(ours.state_dict())
    assert type(theirs) is ImageClassifier
    return ours, theirs


def data(in_memory=False):
    images = torch.arange(8 * 3 * 16 * 16).remainder(251).view(8, 3, 16, 16).to(torch.uint8)
    labels = torch.arange(8) % CLASSES
    if in_memory:
        return dict(inputs=images, data_samples=BatchedLabels(labels, torch.arange(8)))
    return dict(inputs=images, data_samples=[DataSample().set_gt_label(y) for y in labels])


def loss_of(model, data, seed=0):
    np.random.seed(seed)
    torch.manual_seed(seed)
    return sum(model(**model.data_preprocessor(data, True), mode='loss').values()).item()


@pytest.mark.parametrize('in_memory', [False, True])
@pytest.mark.parametrize('mixture', MIXTURES.values(), ids=MIXTURES)
def test_mixed_images_have_mixed_labels(mixture, in_memory):
    ours, theirs = models(batch_augments=copy.deepcopy(mixture))
    for seed in range(4):
        assert loss_of(ours, data(in_memory), seed) == pytest.approx(loss_of(theirs, data(), seed))


def test_mixtures_stand_where_configs_of_mmpretrain_have_them():
    train_cfg = dict(augments=dict(type='Mixup', alpha=0.8))
    model = MODELS.build(network_cfg(branches=False, train_cfg=train_cfg))
    same = dict(batch_augments=train_cfg)
    other = MODELS.build(network_cfg(branches=False, data_preprocessor=same))
    other.load_state_dict(model.state_dict())
    assert loss_of(model, data()) == loss_of(other, data())
    model.data_preprocessor.batch_augments = None
    assert loss_of(model, data()) != loss_of(other, data())


@pytest.mark.parametrize('mixed', [False, True])
@pytest.mark.parametrize('loss', LOSSES.values(), ids=LOSSES)
def test_losses_of_heads_are_mmpretrains(loss, mixed):
    settings = dict(batch_augments=MIXTURES['mixup']) if mixed else {}
    ours, theirs = models(loss, **settings)
    if loss in (LOSSES['use_soft'], LOSSES['use_sigmoid'], LOSSES['focal']):
        theirs.data_preprocessor.to_onehot = True  # they take no labels there
    assert loss_of(ours, data()) == pytest.approx(loss_of(theirs, data()), rel=1e-6)


def scored(samples, scores):
    return [sample.clone().set_gt_score(s) for sample, s in zip(samples, scores, strict=True)]


def methods(**kwargs):
    """Config of every method, with the terms that come from labels."""
    networks = dict(head=head(**kwargs))
    student, teacher = network_cfg(**networks), network_cfg(depth=14, **networks)
    plain = network_cfg(branches=False, **networks)
    return {
        'baseline': plain,
        'linear evaluation': dict(plain, type='LinearEvaluation'),
        'teacher': network_cfg(type='HSAKDTeacher', **networks),
        'frozen teacher': network_cfg(type='HSAKDTeacher', frozen=True, **networks),
        'offline': dict(type='HSAKDOffline', student=student, teacher=teacher),
        'online': dict(type='HSAKDOnline', networks=[student, teacher]),
    }


@pytest.mark.parametrize('method', methods())
def test_loss_of_a_mixture_is_the_mixture_of_losses(method):
    """Of the joint labels too, whatever the method; and distillation never asks for labels."""
    model = MODELS.build(methods()[method]).double().eval()
    inputs, first = batch(6, CLASSES, dtype=torch.float64)
    second = [first[i] for i in (3, 2, 5, 0, 4, 1)]
    one_hot = [F.one_hot(torch.cat([s.gt_label for s in y]), CLASSES) for y in (first, second)]
    mixed = model(inputs, scored(first, 0.3 * one_hot[0] + 0.7 * one_hot[1]), mode='loss')
    of_first, of_second = (model(inputs, samples, mode='loss') for samples in (first, second))
    assert mixed.keys() == of_first.keys()
    for name, loss in mixed.items():
        expected = 0.3 * of_first[name] + 0.7 * of_second[name]
        torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
        if '_kd_' in name:
            torch.testing.assert_close(loss, of_first[name], rtol=0, atol=0)
        else:
            assert not torch.isclose(of_first[name], of_second[name])


def test_scores_of_one_class_are_its_label():
    model = MODELS.build(methods()['teacher']).eval()
    inputs, samples = batch(4, CLASSES)
    one_hot = F.one_hot(torch.cat([s.gt_label for s in samples]), CLASSES)
    hard, soft = (model(inputs, s, mode='loss') for s in (samples, scored(samples, one_hot)))
    for name, loss in hard.items():
        torch.testing.assert_close(soft[name], loss)


def test_joint_scores():
    scores = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]])
    joint = Rotation().joint_labels(scores)
    assert joint.shape == (8, 12)
    for i, j, c in np.ndindex(2, 4, 3):
        assert joint[4 * i + j, 4 * c + j] == scores[i, c]
    assert torch.equal(joint.sum(1), torch.ones(8))


@pytest.mark.parametrize('method, prefix', [('teacher', ''), ('online', 'net1_')])
@pytest.mark.parametrize('kind', ['weights', 'smoothing', 'classy'])
def test_joint_task_follows_the_loss_of_the_head(method, prefix, kind):
    model = MODELS.build(methods(**LOSSES[kind])[method]).double().eval()
    inputs, samples = batch(6, CLASSES, dtype=torch.float64)
    losses = model(inputs, samples, mode='loss')
    network = model if method == 'teacher' else model.networks[1]
    f, c = network(network.transforms(inputs))
    y = torch.cat([s.gt_label for s in samples])
    weight = torch.tensor(LOSSES[kind].get('class_weight', [1.0] * CLASSES)).double()
    eps = dict(weights=0, smoothing=0.1, classy=0.2 / 1.2)[kind]
    scores = (1 - eps) * F.one_hot(y, CLASSES) + eps / CLASSES
    plain = -(weight * scores * f[::4].log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(losses[f'{prefix}loss_cls'], plain)
    for branch, c_l in enumerate(c):
        log_p = c_l.log_softmax(1).view(6, 4, CLASSES, 4).diagonal(dim1=1, dim2=3)  # i, class, j
        joint = -(weight[:, None] * scores[..., None] * log_p).sum(1).mean()
        torch.testing.assert_close(losses[f'{prefix}loss_aux_{branch}'], joint, rtol=1e-6, atol=0)


@pytest.mark.parametrize('kind', ['MultiLabelLinearClsHead', 'CSRAClsHead', 'ArcFaceClsHead'])
def test_heads_with_other_labels_are_refused(kind):
    extra = dict(num_heads=1, lam=0.1) if kind == 'CSRAClsHead' else {}
    other = dict(
        type=f'mmpretrain.{kind}', num_classes=CLASSES, in_channels=16, loss=dict(type=CE), **extra
    )
    with pytest.raises(ConfigError, match=rf'head\.type: expected .*one class.*got {kind}'):
        MODELS.build(network_cfg(head=other))


@pytest.mark.parametrize(
    'loss',
    [
        dict(type=CE, use_sigmoid=True),
        dict(type=CE, reduction='sum'),
        dict(type='mmpretrain.FocalLoss'),
        dict(type='torch.nn.CrossEntropyLoss', label_smoothing=0.1),
        dict(type=SMOOTH, label_smooth_val=0.1, mode='multi_label', use_sigmoid=True),
    ],
)
@pytest.mark.parametrize('method, key', [('teacher', 'model'), ('online', r'model\.networks\.0')])
def test_losses_that_the_joint_task_cannot_follow_are_refused(method, key, loss):
    with pytest.raises(ConfigError, match=rf'{key}\.head\.loss: expected .*LabelSmoothLoss'):
        MODELS.build(methods(**loss)[method])

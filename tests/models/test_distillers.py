import math
from unittest.mock import Mock, patch

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmengine.runner import IterBasedTrainLoop

from hsakd.engine.loops import ResumableIterations
from hsakd.models import distillers
from hsakd.models.distillers import OfflineDistiller
from hsakd.models.losses import LossWeights
from hsakd.models.networks import Outputs
from hsakd.models.transforms import Rotation
from hsakd.registry import MODELS
from hsakd.utils.errors import CheckpointError, ConfigError
from hsakd.utils.networks import frozen_networks, network_configs, trained_networks
from tests.conftest import batch, network_cfg


@MODELS.register_module()
class FourOthers(Rotation):
    """Another set of as many transforms."""


def offline_cfg(student=None, teacher=None, **kwargs):
    return dict(
        type='HSAKDOffline',
        student=student or network_cfg(),
        teacher=teacher or network_cfg(depth=14, width=6),
        **kwargs,
    )


def labels(samples):
    return torch.cat([s.gt_label for s in samples])


def step(model, inputs, samples, lr=0.1):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)
    sum(model(inputs, samples, mode='loss').values()).backward()
    optimizer.step()


def test_frozen_teacher_trains_its_branches_only():
    teacher = MODELS.build(network_cfg(type='HSAKDTeacher', frozen=True)).train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    step(teacher, *batch())
    for name, value in teacher.state_dict().items():
        frozen = name.startswith(('backbone.', 'head.'))
        if frozen or name.endswith(('weight', 'bias', 'running_mean')):
            assert torch.equal(value, before[name]) == frozen, name


def test_backbone_checkpoint_is_for_frozen_teachers(tmp_path):
    plain = MODELS.build(network_cfg(branches=False))
    path = tmp_path / 'plain.pth'
    torch.save(dict(state_dict=plain.state_dict()), path)
    cfg = network_cfg(type='HSAKDTeacher', backbone_ckpt=str(path))
    with pytest.raises(ConfigError, match=r'model\.frozen=True'):
        MODELS.build(cfg)
    teacher = MODELS.build(dict(cfg, frozen=True))
    teacher.init_weights()
    for name, value in plain.state_dict().items():
        assert torch.equal(teacher.state_dict()[name], value)


def test_frozen_teacher_without_checkpoint_does_not_train():
    teacher = MODELS.build(network_cfg(type='HSAKDTeacher', frozen=True))
    optim_wrapper = OptimWrapper(torch.optim.SGD(teacher.branches.parameters(), lr=0.1))
    inputs, samples = batch()
    data = dict(inputs=list(inputs), data_samples=samples)
    with pytest.raises(ConfigError, match=r'model\.backbone_ckpt'):
        teacher.train_step(data, optim_wrapper)
    teacher.load_state_dict(teacher.state_dict())
    teacher.train_step(data, optim_wrapper)


def test_offline_teacher_stays_as_it_is():
    model = MODELS.build(offline_cfg()).train()
    before = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    step(model, *batch())
    assert all(torch.equal(v, before[k]) for k, v in model.teacher.state_dict().items())
    assert not any(module.training for module in model.teacher.modules())
    assert all(p.grad is not None for p in model.student.parameters())


def test_offline_checkpoint_leaves_the_teacher_out_and_loads_strictly():
    model = MODELS.build(offline_cfg())
    state = model.state_dict()
    assert state and all(key.startswith('student.') for key in state)
    other = MODELS.build(offline_cfg())
    other.load_state_dict(state, strict=True)
    assert all(torch.equal(v, state[k]) for k, v in other.state_dict().items())
    with pytest.raises(RuntimeError, match='head.fc'):
        other.load_state_dict({k: v for k, v in state.items() if 'head.fc' not in k})


def test_offline_without_teacher_weights_builds_but_does_not_train():
    model = MODELS.build(offline_cfg(teacher_ckpt=None))
    optim_wrapper = OptimWrapper(torch.optim.SGD(model.student.parameters(), lr=0.1))
    inputs, samples = batch()
    data = dict(inputs=list(inputs), data_samples=samples)
    model.load_state_dict(model.state_dict())  # a student's checkpoint brings no teacher
    with pytest.raises(ConfigError, match=r'model\.teacher_ckpt'):
        model.train_step(data, optim_wrapper)
    model.teacher.load_state_dict(MODELS.build(network_cfg(depth=14, width=6)).state_dict())
    assert 'loss_kd_logits' in model.train_step(data, optim_wrapper)


@pytest.mark.parametrize('prefix', ['student.', 'networks.0.', 'module.'])
def test_teacher_checkpoint_may_be_of_any_of_our_models(tmp_path, prefix):
    teacher = MODELS.build(network_cfg(depth=14, width=6))
    path = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict={prefix + k: v for k, v in teacher.state_dict().items()}), path)
    model = MODELS.build(offline_cfg(teacher_ckpt=str(path)))
    model.init_weights()
    saved = teacher.state_dict()
    assert all(torch.equal(v, saved[k]) for k, v in model.teacher.state_dict().items())


@pytest.mark.parametrize(
    'saved, words',
    [
        (network_cfg(depth=14, width=6, num_classes=7), '7 classes, the config 5'),
        (network_cfg(depth=8, width=6), 'weights are missing'),
        (network_cfg(depth=14, width=4), 'another shape'),
        (network_cfg(depth=14, width=6, branches=False), '0 branches, the config 3.*branches.0'),
        (
            network_cfg(depth=14, width=6, transforms=dict(type='ColorPermutation')),
            'the checkpoint has 6 transforms, the config 4',
        ),
    ],
)
def test_teacher_checkpoint_that_does_not_fit(tmp_path, saved, words):
    path = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict=MODELS.build(saved).state_dict()), path)
    model = MODELS.build(offline_cfg(teacher_ckpt=str(path)))
    before = {k: v.clone() for k, v in model.teacher.state_dict().items()}
    with pytest.raises(CheckpointError, match=words) as error:
        model.init_weights()
    assert 'model.teacher_ckpt' in str(error.value) and str(path) in str(error.value)
    assert all(torch.equal(v, before[k]) for k, v in model.teacher.state_dict().items())


@pytest.mark.parametrize(
    'student, words',
    [
        (network_cfg(branches=dict(type='AuxiliaryBranches', stages=[1, 2])), 'branches.*2.*3'),
        (network_cfg(num_classes=6), 'classes.*6.*5'),
        (network_cfg(transforms=dict(type='ColorPermutation')), 'ColorPermutation.*Rotation'),
        (network_cfg(transforms=dict(type='FourOthers')), 'FourOthers.*Rotation'),
        (network_cfg(branches=False), r'model\.student\.branches'),
    ],
)
def test_pair_that_does_not_match(student, words):
    with pytest.raises(ConfigError, match=words):
        MODELS.build(offline_cfg(student=student))


def kl(s, t):
    p, q = (t / 3).softmax(1), (s / 3).softmax(1)
    return 9 * (p * (p / q).log()).sum(1).mean()


def test_branch_pairs_say_who_learns_from_whom():
    student = network_cfg(branches=dict(type='AuxiliaryBranches', stages=[0, 2]))
    model = MODELS.build(offline_cfg(student, branch_pairs=[[1, 2], [0, 1], [0, 0]])).double()
    inputs, samples = batch(dtype=torch.float64)
    losses = model.train()(inputs, samples, mode='loss')
    x = model.student.transforms(inputs)
    (_, c_s), (_, c_t) = model.student(x), model.teacher(x)
    two = kl(c_s[0], c_t[0]) + kl(c_s[0], c_t[1])
    torch.testing.assert_close(losses['loss_kd_aux_0'], two)
    torch.testing.assert_close(losses['loss_kd_aux_1'], kl(c_s[1], c_t[2]))
    assert set(losses) == {'loss_cls', 'loss_kd_logits', 'loss_kd_aux_0', 'loss_kd_aux_1'}


@pytest.mark.parametrize(
    'pairs, words',
    [
        ([[0, 0], [1, 1], [2, 3]], r'\(2, 3\)'),
        ([[0, 0], [1, 1]], r'branches \[2\]'),
        ([[0, 0], [0, 0], [1, 1], [2, 2]], r'\(0, 0\)'),
        ([0, 1, 2], r'\[0, 1, 2\]'),
    ],
)
def test_branch_pairs_that_do_not_exist(pairs, words):
    with pytest.raises(ConfigError, match=rf'model\.branch_pairs.*{words}'):
        MODELS.build(offline_cfg(branch_pairs=pairs))


def test_loss_weights_scale_terms():
    weights = dict(loss_kd_logits=0.5, loss_kd_aux=2, loss_kd_aux_1=0)
    plain = MODELS.build(offline_cfg()).eval()
    weighted = MODELS.build(offline_cfg(loss_weights=weights)).eval()
    weighted.student.load_state_dict(plain.student.state_dict())
    weighted.teacher.load_state_dict(plain.teacher.state_dict())
    data = batch()
    one, other = plain(*data, mode='loss'), weighted(*data, mode='loss')
    factors = dict(
        loss_cls=1, loss_kd_logits=0.5, loss_kd_aux_0=2, loss_kd_aux_1=0, loss_kd_aux_2=2
    )
    assert set(other) == set(one) == set(factors)
    for name, factor in factors.items():
        torch.testing.assert_close(other[name], factor * one[name])


@pytest.mark.parametrize(
    'weights, words',
    [
        (dict(loss_kd=1), r'loss_weights\.loss_kd: .*loss_kd_aux_2.*loss_kd_aux'),
        (dict(loss_kd_aux_3=1), 'loss_kd_aux_3'),
        (dict(loss_cls=-1), r'loss_weights\.loss_cls:.*-1'),
        (dict(loss_cls=math.inf), r'loss_weights\.loss_cls:.*inf'),
        (dict(loss_cls=dict(weight=1, epochs=3)), r'loss_weights\.loss_cls:.*epochs'),
        (0.5, r'model\.loss_weights:.*0.5'),
        (dict(loss_cls=0, loss_kd_logits=0, loss_kd_aux=0), r'model\.loss_weights:.*loss_kd_aux_2'),
    ],
)
def test_loss_weights_that_make_no_sense(weights, words):
    with pytest.raises(ConfigError, match=words):
        MODELS.build(offline_cfg(loss_weights=weights))


def test_teacher_and_online_have_loss_weights_too():
    data = batch()
    teacher = MODELS.build(network_cfg(type='HSAKDTeacher', loss_weights=dict(loss_aux=0)))
    assert [name for name, loss in teacher(*data, mode='loss').items() if loss] == ['loss_cls']
    online = MODELS.build(online_cfg(2, loss_weights=dict(loss_kd_aux=0, loss_aux_1=0)))
    names = ('loss_cls', 'loss_kd_logits', 'loss_aux_0', 'loss_aux_2')
    left = {name for name, loss in online(*data, mode='loss').items() if loss}
    assert left == {f'net{i}_{name}' for i in (0, 1) for name in names}


def test_a_term_that_is_off_leaves_no_parameter_without_gradient():
    # as DistributedDataParallel needs it
    model = MODELS.build(offline_cfg(loss_weights=dict(loss_kd_aux_1=0))).train()
    sum(model(*batch(), mode='loss').values()).backward()
    assert all(p.grad is not None for p in model.student.parameters())
    assert not any(p.grad.any() for p in model.student.branches[1].parameters())


def test_frozen_teacher_needs_a_branch_to_learn_from():
    with pytest.raises(ConfigError, match=r'model\.loss_weights:.*loss_aux_0'):
        MODELS.build(network_cfg(type='HSAKDTeacher', frozen=True, loss_weights=dict(loss_aux=0)))


def online_cfg(num=2, **kwargs):
    networks = [network_cfg(depth=8 + 6 * (i % 2), width=4 + i) for i in range(num)]
    return dict(type='HSAKDOnline', networks=networks, **kwargs)


def test_online_loss_is_the_formula():
    model = MODELS.build(online_cfg(3)).double().train()
    inputs, samples = batch(dtype=torch.float64)
    losses = model(inputs, samples, mode='loss')
    y = labels(samples)
    x = model.networks[0].transforms(inputs)
    k = model.networks[0].transforms.joint_labels(y)
    outputs = [network(x) for network in model.networks]
    expected = {}
    for a, (f, c) in enumerate(outputs):
        peers = [output for b, output in enumerate(outputs) if b != a]
        expected[f'net{a}_loss_cls'] = F.cross_entropy(f[::4], y)
        expected[f'net{a}_loss_kd_logits'] = sum(kl(f, f_b) for f_b, _ in peers) / 2
        for i in range(3):
            expected[f'net{a}_loss_aux_{i}'] = F.cross_entropy(c[i], k)
            expected[f'net{a}_loss_kd_aux_{i}'] = sum(kl(c[i], c_b[i]) for _, c_b in peers) / 2
    assert set(losses) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)


def test_accuracy_in_training_is_logged_where_the_head_has_cal_acc():
    cfg = online_cfg(2)
    cfg['networks'][1]['head'] |= dict(cal_acc=True, topk=(1, 2))
    model = MODELS.build(cfg).double().eval()
    inputs, samples = batch(8, dtype=torch.float64)
    logits, y = model.networks[1](inputs)[0], labels(samples)
    terms = model(inputs, samples, mode='loss')
    found = {name: value.item() for name, value in terms.items() if 'accuracy' in name}
    right = [(logits.topk(k).indices == y[:, None]).any(1).float().mean().item() for k in (1, 2)]
    assert found == pytest.approx(
        {'net1_accuracy_top1': 100 * right[0], 'net1_accuracy_top2': 100 * right[1]}
    )
    total, log = model.parse_losses(terms)
    assert total == sum(loss for name, loss in terms.items() if 'loss' in name)
    assert log['net1_accuracy_top1'].item() == found['net1_accuracy_top1']


def test_online_networks_are_fixed_targets_of_each_other():
    off = dict(loss_cls=0, loss_aux=0)
    model = MODELS.build(online_cfg(2, loss_weights=off)).eval()
    losses = model(*batch(), mode='loss')
    sum(loss for name, loss in losses.items() if name.startswith('net0_')).backward()
    assert all(p.grad is not None for p in model.networks[0].parameters())
    assert all(p.grad is None for p in model.networks[1].parameters())


def test_online_of_different_families_trains_all_and_predicts_with_the_first():
    wide = dict(
        network_cfg(),
        backbone=dict(type='WideResNet', depth=10, widen_factor=1),
        head=dict(network_cfg()['head'], in_channels=64),
    )
    model = MODELS.build(dict(type='HSAKDOnline', networks=[wide, network_cfg()])).train()
    inputs, samples = batch()
    step(model, inputs, samples)
    assert all(p.grad is not None for p in model.parameters())
    model.eval()
    torch.testing.assert_close(model(inputs)[0], model.networks[0](inputs)[0])
    score = model(inputs, samples, mode='predict')[0].pred_score
    torch.testing.assert_close(score, model.networks[0](inputs)[0].softmax(1)[0])


@pytest.mark.parametrize(
    'networks, words',
    [
        ([network_cfg()], r'model\.networks:.*1'),
        (
            [network_cfg(), network_cfg(num_classes=6)],
            r'networks\.1\.head\.num_classes:.*networks\.0 \(5\).*6',
        ),
        ([network_cfg(), network_cfg(branches=False)], r'networks\.1:.*branches.*0'),
        ([network_cfg(branches=False)] * 2, r'networks\.0\.branches'),
        (2, r'model\.networks:.*2'),
        (
            [network_cfg(), network_cfg(transforms=dict(type='NoTransform'))],
            r'networks\.1:.*Rotation.*NoTransform',
        ),
        (
            [network_cfg(), network_cfg(branches=dict(type='AuxiliaryBranches', stages=[0]))],
            r'networks\.1:.*networks\.0 \(3\).*1',
        ),
    ],
)
def test_online_networks_that_do_not_match(networks, words):
    with pytest.raises(ConfigError, match=words):
        MODELS.build(dict(type='HSAKDOnline', networks=networks))


def test_teacher_trained_with_another_set_of_as_many_transforms_is_named(tmp_path):
    saved = network_cfg(depth=14, width=6, type='HSAKDTeacher', transforms=dict(type='FourOthers'))
    path = tmp_path / 'teacher.pth'
    text = Config(dict(model=saved)).pretty_text
    torch.save(dict(state_dict=MODELS.build(saved).state_dict(), meta=dict(cfg=text)), path)
    with pytest.raises(CheckpointError, match='Rotation.*FourOthers'):
        MODELS.build(offline_cfg(teacher_ckpt=str(path))).init_weights()
    same = network_cfg(depth=14, width=6, transforms=dict(type='FourOthers'))
    student = network_cfg(transforms=dict(type='FourOthers'))
    MODELS.build(offline_cfg(student, same, teacher_ckpt=str(path))).init_weights()


def test_a_weight_may_grow_over_the_first_epochs():
    weights = LossWeights(
        dict(loss_kd=dict(weight=2.0, warmup_epochs=4)), dict(loss_cls=1.0, loss_kd=1.0)
    )
    losses = dict(loss_cls=torch.tensor(3.0), loss_kd=torch.tensor(1.0))
    found = [weights(losses, epoch)['loss_kd'].item() for epoch in range(6)]
    assert found == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    assert weights(losses, 0)['loss_cls'] is losses['loss_cls']
    weights = LossWeights(dict(loss_kd=dict(weight=2.0, ramp_epochs=4)), dict(loss_kd=1.0))
    found = [weights(dict(loss_kd=1.0), epoch)['loss_kd'] for epoch in (0, 2, 4, 9)]
    assert found == pytest.approx([2 * math.exp(-5), 2 * math.exp(-5 / 4), 2, 2])
    with pytest.raises(ConfigError, match='loss_kd.*ramp_epochs.*got'):
        LossWeights(dict(loss_kd=dict(ramp_epochs=4, warmup_epochs=4)), dict(loss_kd=1.0))


def test_networks_and_shapes_of_what_is_tapped():
    model = MODELS.build(offline_cfg())
    assert trained_networks(model) == {'model.student': model.student}
    assert frozen_networks(model) == {'model.teacher': model.teacher}
    assert list(network_configs(offline_cfg())) == ['model.student']
    online = MODELS.build(online_cfg(2))
    assert list(trained_networks(online)) == list(network_configs(online_cfg(2)))
    plain = MODELS.build(network_cfg(branches=False))
    assert trained_networks(plain) == {'model': plain} and not frozen_networks(plain)
    assert plain.outputs(torch.randn(2, 3, 16, 16))._replace(logits=None) == Outputs(None)
    plain.tap('maps', 'embedding')
    shapes = plain.output_shapes(16)
    assert [tuple(m) for m in shapes.maps] == [(4, 16, 16), (4, 16, 16), (8, 8, 8), (16, 4, 4)]
    assert tuple(shapes.embedding) == (16,) and tuple(shapes.logits) == (5,)
    with pytest.raises(ValueError, match='stages'):
        plain.tap('stages')


class Helped(OfflineDistiller):
    """With a helper layer, and a term that it does not name."""

    default_weights = dict(loss_cls=1.0)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.helper = torch.nn.Linear(3, 3)

    def losses(self, x, y, batch):
        return dict(loss_other=self.student.outputs(x).logits.mean())


def test_what_a_method_may_get_wrong_and_what_init_cfg_reaches(tmp_path):
    teacher = MODELS.build(network_cfg(depth=14, width=6))
    torch.save(dict(state_dict=teacher.state_dict()), tmp_path / 'teacher.pth')
    cfg = offline_cfg(teacher_ckpt=str(tmp_path / 'teacher.pth'))
    del cfg['type']
    model = Helped(init_cfg=dict(type='Constant', layer='Linear', val=7), **cfg)
    model.init_weights()
    assert (model.helper.weight == 7).all()
    torch.testing.assert_close(model.teacher.state_dict(), teacher.state_dict())
    with pytest.raises(ConfigError, match='loss_cls.*loss_other'):
        model.loss(*batch())


def test_epochs_are_counted_in_loops_over_iterations(tmp_path):
    """See the message hub, which weights that grow over epochs read."""
    hub = MessageHub.get_instance('iterations')
    runner = Mock(message_hub=hub, seed=0)
    loop = object.__new__(ResumableIterations)
    loop._runner, loop.dataloader, loop._iter = runner, range(3), 7
    loop._max_iters = 10
    with patch.object(IterBasedTrainLoop, 'run_iter'):
        loop.run_iter([])
    assert hub.get_info('epoch') == 2 and hub.get_info('max_epochs') == 4


@pytest.mark.parametrize(
    'kind, settings, words',
    [
        ('TfKD', dict(form='foo'), "form: expected 'paper' or 'library', got 'foo'"),
        ('TfKD', dict(temperature=-3), 'temperature: expected a number above 0, got -3'),
        ('PSKD', dict(alpha=7), 'alpha: expected a number above 0 and below 1, got 7'),
        ('BAKE', dict(omega=1), 'omega.*below 1, got 1'),
        ('MixSKD', dict(alpha=0), 'alpha.*above 0, got 0'),
        ('BYOTJournal', dict(temperature='3'), "temperature.*got '3'"),
        ('DML', dict(target='all'), "target: expected 'each' or 'mean'"),
        ('MCL', dict(dim=0), 'dim: expected a whole number above 0, got 0'),
        ('MCLMemory', dict(negatives=1.5), 'negatives.*got 1.5'),
        ('CRD', dict(negatives=-2), 'negatives.*got -2'),
        ('CRD', dict(momentum=3), 'momentum.*below 1, got 3'),
        ('DKD', dict(standardize='yes'), "standardize: expected True or False, got 'yes'"),
        ('DIST', dict(temperature=0), 'temperature'),
        ('SSKD', dict(ss_share=2), 'ss_share'),
        ('FitNet', dict(level=9), 'level: expected -1 or 0, got 9'),
        ('ONE', dict(level=1), 'level: expected -1 or 0, got 1'),
    ],
)
def test_settings_of_methods(kind, settings, words):
    o = Outputs(
        torch.zeros(2, 3), (torch.zeros(2, 3),), maps=(torch.zeros(2, 4, 2, 2),),
        embedding=torch.zeros(2, 4), last_maps=(torch.zeros(2, 4, 2, 2),) * 2,
    ).shapes  # fmt: skip
    kind = getattr(distillers, kind)
    alone = issubclass(kind, distillers.SelfDistiller)
    networks = [[o, o]] if issubclass(kind, distillers.OnlineDistiller) else [o] * (2 - alone)
    with pytest.raises(ConfigError, match=f'model.{words}'):
        kind(*networks, **settings)

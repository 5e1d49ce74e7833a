import pytest
import torch

from hsakd.registry import MODELS
from hsakd.utils.errors import ConfigError
from tests.conftest import batch, network_cfg


@pytest.mark.parametrize('branches', [True, False])
def test_modes(branches):
    network = MODELS.build(network_cfg(branches=branches)).eval()
    inputs, samples = batch()
    logits, joint_logits = network(inputs, mode='tensor')
    assert logits.shape == (4, 5)
    assert [tuple(c.shape) for c in joint_logits] == [(4, 20)] * (3 if branches else 0)
    assert set(network(inputs, samples, mode='loss')) == {'loss_cls'}
    predicted = network(inputs, samples, mode='predict')
    for sample, row in zip(predicted, logits, strict=True):
        torch.testing.assert_close(sample.pred_score, row.softmax(0))
        assert sample.pred_label.item() == row.argmax()


def test_validation_step_adds_what_each_branch_says():
    network = MODELS.build(network_cfg()).eval()
    inputs, samples = batch()
    predicted = network.predict_with_branches(inputs, samples)
    _, joint_logits = network(network.transforms(inputs))
    for i, sample in enumerate(predicted):
        for branch, c in enumerate(joint_logits):
            rows = c[4 * i : 4 * i + 4]
            assert sample.pred_joint_label[branch].tolist() == rows.argmax(1).tolist()
            evidence = rows[0].softmax(0).reshape(5, 4).sum(1)
            assert sample.pred_branch_label[branch] == evidence.argmax()


def test_label_smoothing_of_the_head_reaches_the_loss():
    cfg = network_cfg(branches=False)
    plain = MODELS.build(cfg)
    smooth_loss = dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, num_classes=5)
    smooth = MODELS.build({**cfg, 'head': dict(cfg['head'], loss=smooth_loss)})
    smooth.load_state_dict(plain.state_dict())
    inputs, samples = batch()
    one, other = (m.eval()(inputs, samples, mode='loss')['loss_cls'] for m in (plain, smooth))
    assert not torch.isclose(one, other)


@pytest.mark.parametrize('aggregate, branches', [('all', [0, 1, 2]), ([0, 2], [0, 2])])
def test_aggregated_inference_averages_class_evidence_over_rotations(aggregate, branches):
    network = MODELS.build(network_cfg(aggregate=aggregate)).eval()
    inputs, samples = batch()
    predicted = network(inputs, samples, mode='predict')
    _, joint_logits = network(network.transforms(inputs))
    for i, sample in enumerate(predicted):
        evidence = torch.zeros(5)
        for y in range(5):
            for j in range(4):
                for branch in branches:
                    evidence[y] += joint_logits[branch][4 * i + j, 4 * y + j]
        evidence /= 4 * len(branches)
        torch.testing.assert_close(sample.pred_score, evidence.softmax(0))
        assert sample.pred_label.item() == evidence.argmax()


@pytest.mark.parametrize('aggregate', ['head', [], [3], [0, 0], 1])
def test_branches_to_aggregate_that_do_not_exist(aggregate):
    with pytest.raises(ConfigError, match=r'aggregate.*\[0, 1, 2\]'):
        MODELS.build(network_cfg(aggregate=aggregate))
    with pytest.raises(ConfigError, match='aggregate'):
        MODELS.build(network_cfg(branches=False, aggregate='all'))


def test_transforms_that_are_no_config():
    with pytest.raises(ConfigError, match=r"transforms.*'Rotation'"):
        MODELS.build(network_cfg(transforms='Rotation'))

"""Agreement with the networks, losses and training steps of the paper's authors."""

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from hsakd.models.backbones.stages import run_stages
from hsakd.registry import MODELS
from hsakd.utils.official import convert_official, network_config
from tests.golden_cases import NETWORKS, architectures, batch, golden, official_state_dict

#: One network of each family.
WITH_LOGITS = [
    'ResNet50_aux',
    'ShuffleV1_aux',
    'ShuffleV2_aux',
    'mobilenetV2_aux',
    'resnet20_aux',
    'vgg13_bn_aux',
    'wrn_16_2_aux',
]


def assert_agrees(ours: Tensor, theirs: np.ndarray) -> None:
    np.testing.assert_allclose(
        ours.numpy(), theirs, rtol=1e-9, atol=1e-9 * float(np.abs(theirs).max())
    )


def converted(arch: str, salt: str = '') -> dict:
    return convert_official(dict(net=official_state_dict(arch, salt)))


@pytest.mark.parametrize('arch', NETWORKS)
def test_architecture(arch: str) -> None:
    spec = architectures()[arch]
    network = MODELS.build(network_config(NETWORKS[arch], spec['num_classes'], True)).eval()

    def count(*modules: nn.Module) -> int:
        return sum(p.numel() for module in modules for p in module.parameters())

    assert count(network.backbone, network.head) == spec['backbone_params']
    assert count(network.branches, network.joint_heads) == spec['auxiliary_params']
    # On the meta device a forward pass computes shapes only.
    images = torch.empty(1, 3, spec['input_size'], spec['input_size'], device='meta')
    maps = run_stages(network.to('meta').backbone, images).stage_maps
    assert [list(m.shape[1:]) for m in maps] == spec['stage_feature_shapes']


@pytest.mark.parametrize('arch', WITH_LOGITS)
def test_forward(arch: str) -> None:
    checkpoint = converted(arch)
    assert checkpoint['meta']['network'] == NETWORKS[arch]
    network = MODELS.build(checkpoint['meta']['model']).double().eval()
    network.load_state_dict(checkpoint['state_dict'])
    images, _ = batch(0)
    with torch.no_grad():
        logits, joint_logits = network(network.transforms(images), mode='tensor')
    theirs = golden(f'forward_{arch}')
    assert_agrees(logits, theirs['logits'])
    assert len(joint_logits) == len(theirs) - 1
    for index, joint in enumerate(joint_logits):
        assert_agrees(joint, theirs[f'aux_logits_{index}'])


def train_steps(model: nn.Module) -> list[dict[str, float]]:
    """Three SGD steps; the losses at every step."""
    model.double().train()
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad],
        lr=0.01,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
    )
    steps = []
    for step in range(3):
        images, labels = batch(step + 1)
        samples = [DataSample().set_gt_label(int(label)) for label in labels]
        losses = model(images, samples, mode='loss')
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        steps.append({key: loss.item() for key, loss in losses.items()})
    return steps


def check_final_logits(model: nn.Module, theirs: dict[str, np.ndarray], prefix: str = '') -> None:
    """The logits of a network after training."""
    model.eval()
    transforms = MODELS.build(dict(type='Rotation'))
    with torch.no_grad():
        logits, joint_logits = model(transforms(batch(0)[0]), mode='tensor')
    assert_agrees(logits, theirs[f'{prefix}final_logits'])
    for index, joint in enumerate(joint_logits):
        assert_agrees(joint, theirs[f'{prefix}final_aux_logits_{index}'])


def check_training(model: nn.Module, name: str, keys: dict[str, str]) -> None:
    """Three SGD steps, with every loss at every step, and the logits after them.

    Args:
        model: With its weights.
        name: Of the stored case.
        keys: Our key of each stored loss; the number of the branch follows where there are many.
    """
    theirs = golden(name)
    for step, losses in enumerate(train_steps(model)):
        expected = {}
        for stored, ours in keys.items():
            values = theirs[stored][step]
            if values.ndim:
                expected |= {f'{ours}_{i}': value for i, value in enumerate(values)}
            else:
                expected[ours] = values
        assert losses == pytest.approx(expected, rel=1e-9)
        assert sum(losses.values()) == pytest.approx(theirs['loss'][step], rel=1e-9)
    check_final_logits(model, theirs)


@pytest.mark.parametrize('frozen', [False, True], ids=['joint', 'frozen'])
def test_teacher_training(frozen: bool) -> None:
    checkpoint = converted('resnet20_aux', 'teacher')
    config = dict(checkpoint['meta']['model'], type='HSAKDTeacher', frozen=frozen)
    model = MODELS.build(config).double()
    model.load_state_dict(checkpoint['state_dict'])
    name = 'teacher-frozen' if frozen else 'teacher'
    check_training(model, f'{name}_resnet20_aux', dict(loss_cls='loss_cls', loss_aux='loss_aux'))


def test_offline_training() -> None:
    student = converted('resnet20_aux', 'student')
    teacher = converted('resnet56_aux', 'teacher')
    model = MODELS.build(
        dict(
            type='HSAKDOffline', student=student['meta']['model'], teacher=teacher['meta']['model']
        )
    ).double()
    model.student.load_state_dict(student['state_dict'])
    model.teacher.load_state_dict(teacher['state_dict'])
    check_training(
        model,
        'offline_resnet20_aux_from_resnet56_aux',
        dict(loss_cls='loss_cls', loss_kd_logits='loss_kd_logits', loss_kd_aux='loss_kd_aux'),
    )


def test_online_training() -> None:
    networks = [converted('resnet20_aux', salt) for salt in ('net1', 'net2')]
    model = MODELS.build(dict(type='HSAKDOnline', networks=[n['meta']['model'] for n in networks]))
    for network, checkpoint in zip(model.networks, networks, strict=True):
        network.double().load_state_dict(checkpoint['state_dict'])
    theirs = golden('online_resnet20_aux')
    for step, losses in enumerate(train_steps(model)):
        mutual = sum(loss for key, loss in losses.items() if '_kd_' in key)
        task = sum(loss for key, loss in losses.items() if '_kd_' not in key)
        assert mutual == pytest.approx(theirs['loss_mutual'][step], rel=1e-9)
        assert task == pytest.approx(theirs['loss_task'][step], rel=1e-9)
        assert mutual + task == pytest.approx(theirs['loss'][step], rel=1e-9)
    for index, network in enumerate(model.networks):
        check_final_logits(network, theirs, f'net{index + 1}_')


#: The stored taps of some networks, and the arch whose weights they have.
TAPS = dict(
    resnet20='resnet20_aux',
    wrn_16_2='wrn_16_2_aux',
    vgg13='vgg13_bn_aux',
    MobileNetV2='mobilenetV2_aux',
    ShuffleV2='ShuffleV2_aux',
)


def digest(values: Tensor) -> Tensor:
    """Mean, mean of squares, first and last four values."""
    flat = values.flatten()
    return torch.cat([torch.stack([flat.mean(), (flat**2).mean()]), flat[:4], flat[-4:]])


@pytest.mark.parametrize('branches', [True, False])
@pytest.mark.parametrize('name, arch', TAPS.items())
def test_taps(name: str, arch: str, branches: bool) -> None:
    checkpoint = converted(arch)
    config = dict(checkpoint['meta']['model'])
    if not branches:
        del config['branches']
    network = MODELS.build(config).double().eval()
    network.load_state_dict(checkpoint['state_dict'], strict=branches)
    network.tap('maps', 'pre_activations', 'embedding')
    with torch.no_grad():
        outputs = network.outputs(batch(0)[0])
    theirs = golden(f'taps_{name}')
    assert_agrees(outputs.logits, theirs['logits'])
    assert_agrees(digest(outputs.embedding), theirs['embedding'])
    assert len(outputs.maps) == sum(key.startswith('shape_') for key in theirs)
    assert len(outputs.joint_logits) == (network.num_branches if branches else 0)
    for k, (plain, before) in enumerate(zip(outputs.maps, outputs.pre_activations, strict=True)):
        assert list(plain.shape) == theirs[f'shape_{k}'].tolist()
        assert_agrees(digest(plain), theirs[f'plain_{k}'])
        assert_agrees(digest(before), theirs[f'pre_{k}'])

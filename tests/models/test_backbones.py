from collections.abc import Callable

import pytest
import torch
from mmengine.config import Config

from hsakd.models.backbones import (
    CIFARVGG,
    CIFARMobileNetV2,
    CIFARResNet,
    CIFARShuffleNetV2,
    WideResNet,
)
from hsakd.models.networks import BranchedClassifier
from hsakd.registry import MODELS
from hsakd.utils.errors import ConfigError
from tests.conftest import ROOT

#: Parameters with 100 classes, and the tapped maps as channels x side at 32x32, the last the size
#: of the embedding. Networks that no published checkpoint of the project's golden cases is of.
NETWORKS = {
    'vgg8': (3_965_028, '64x32 128x16 256x8 512x4 512x4 512'),
    'mobilenet-v2-s2': (812_836, '16x16 12x16 16x8 48x4 160x2 1280'),
    'resnet32': (472_756, '16x32 16x32 32x16 64x8 64'),
    'resnet18-cifar': (11_220_132, '64x32 64x32 128x16 256x8 512x4 512'),
}


def network_of(name: str, **changes: object) -> BranchedClassifier:
    model = Config.fromfile(ROOT / f'configs/_base_/networks/{name}.py').model
    return MODELS.build(dict(model, **changes)).eval()


@pytest.mark.parametrize('name', NETWORKS)
def test_size_and_taps(name: str) -> None:
    network = network_of(name)
    parameters, taps = NETWORKS[name]
    assert sum(p.numel() for p in network.parameters()) == parameters
    network.tap('maps', 'pre_activations', 'embedding')
    shapes = network.output_shapes(32)
    maps = [f'{channels}x{side}' for channels, side, _ in shapes.maps]
    assert ' '.join([*maps, str(*shapes.embedding)]) == taps
    assert shapes.pre_activations == shapes.maps


@pytest.mark.parametrize('name', NETWORKS)
def test_branches(name: str) -> None:
    network = network_of(name, branches=dict(type='AuxiliaryBranches')).train()
    logits, joint_logits = network(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 100)
    assert len(joint_logits) == (3 if name == 'resnet32' else 4)
    assert all(joint.shape == (2, 400) for joint in joint_logits)
    sum(out.sum() for out in (logits, *joint_logits)).backward()
    assert all(p.grad is not None for p in network.parameters())


def test_maps_of_vgg8_are_those_before_the_max_pools() -> None:
    network = network_of('vgg8')
    network.tap('maps', 'pre_activations', 'embedding')
    outputs = network.outputs(torch.randn(2, 3, 32, 32))
    for plain, before in zip(outputs.maps, outputs.pre_activations, strict=True):
        assert before is plain or torch.equal(plain, before.relu())
    assert torch.equal(outputs.embedding, outputs.maps[-1].mean((2, 3)))


def test_mobilenet_at_stride_two_has_the_same_weights() -> None:
    """And the map of its stem is every second point of that at stride one."""
    images = torch.randn(2, 3, 32, 32)
    one, two = CIFARMobileNetV2().eval(), CIFARMobileNetV2(stem_stride=2).eval()
    two.load_state_dict(one.state_dict())
    torch.testing.assert_close(two.stem(images), one.stem(images)[:, :, ::2, ::2])


def test_outputs_are_those_asked_for():
    x = torch.randn(2, 3, 32, 32)
    net = CIFARShuffleNetV2(out_indices=(0, 2, 3)).eval()
    assert [tuple(f.shape[1:]) for f in net(x)] == [(116, 16, 16), (464, 4, 4), (1024, 4, 4)]
    (last,) = CIFARShuffleNetV2().eval()(x)
    assert last.shape == (2, 1024, 4, 4)


@pytest.mark.parametrize(
    'build, words',
    [
        (lambda: WideResNet(17, 2), 'depth of WideResNet.* 17'),
        (lambda: CIFARResNet(21), 'depth of CIFARResNet.* 21'),
        (lambda: CIFARVGG(11), 'depth of CIFARVGG.* 11'),
        (lambda: WideResNet(16, 2, out_indices=(4,)), 'out_indices.* .4,'),
    ],
)
def test_impossible_networks(build: Callable, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build()

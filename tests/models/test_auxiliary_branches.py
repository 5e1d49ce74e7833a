import pytest
import torch
from mmengine.model import BaseModule

from hsakd.models.backbones import CIFARVGG, CIFARMobileNetV2, CIFARResNet, WideResNet
from hsakd.models.backbones.stages import run_stages
from hsakd.models.necks import AuxiliaryBranches
from hsakd.registry import MODELS
from hsakd.utils.errors import ConfigError
from tests.conftest import network_cfg


def shapes(module):
    return {name: tuple(p.shape) for name, p in module.state_dict().items()}


def test_branch_is_a_copy_of_the_later_stages():
    backbone = WideResNet(10, 2)
    branches = AuxiliaryBranches(backbone)
    assert len(branches) == 3
    for tap in range(2):
        for later in range(tap + 1, 3):
            copy = getattr(branches[tap], f'stage{later + 1}')
            assert shapes(copy) == shapes(backbone.stages[later])
    assert all(shapes(branch.tail) == shapes(backbone.tail) for branch in branches)


def test_last_branch_keeps_width_and_size():
    backbone = CIFARVGG()
    last = AuxiliaryBranches(backbone)[-1]
    feature = torch.randn(2, 512, 4, 4)
    assert last(feature).shape == feature.shape


@pytest.mark.parametrize(
    'backbone',
    [
        lambda: WideResNet(10, 1),
        lambda: CIFARResNet(8),
        lambda: CIFARMobileNetV2(),
        lambda: MODELS.build(dict(type='mmpretrain.ResNet', depth=18)),
    ],
)
def test_embeddings_have_the_size_that_the_head_takes(backbone):
    backbone = backbone()
    branches = AuxiliaryBranches(backbone)
    maps, _, _, (last,) = run_stages(backbone, torch.randn(2, 3, 32, 32))
    assert {tuple(e.shape) for e in branches(maps)} == {(2, last.shape[1])}
    assert branches.embedding_channels == last.shape[1]


def test_weights_are_fresh_after_initialisation():
    network = MODELS.build(network_cfg())
    network.init_weights()
    original = network.backbone.layer3[0].conv2.weight
    copies = [branch.stage3[0].conv2.weight for branch in network.branches]
    everything = [original, *copies]
    for i, one in enumerate(everything):
        assert all(not torch.equal(one, other) for other in everything[i + 1 :])
    # All of them are drawn as the backbone's init_cfg says: Kaiming, fan out.
    expected = (2 / (original.shape[0] * 9)) ** 0.5
    assert all(abs(w.std().item() / expected - 1) < 0.3 for w in everything)


def test_some_stages_only():
    backbone = CIFARResNet(8)
    branches = AuxiliaryBranches(backbone, stages=[0, 2])
    maps, *_ = run_stages(backbone, torch.randn(2, 3, 16, 16))
    assert len(branches(maps)) == 2


@pytest.mark.parametrize('stages', [[], [3], [-1], [1, 1], 1])
def test_stages_that_do_not_exist(stages):
    with pytest.raises(ConfigError, match=r'branches\.stages.*0\.\.2'):
        AuxiliaryBranches(CIFARResNet(8), stages=stages)


def test_unknown_backbone_is_named():
    class Mystery(BaseModule):
        pass

    with pytest.raises(ConfigError, match='ConvBranches.*Mystery'):
        AuxiliaryBranches(Mystery())

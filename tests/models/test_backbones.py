import pytest
import torch

from hsakd.models.backbones import CIFARResNet, CIFARShuffleNetV2, WideResNet
from hsakd.utils.errors import ConfigError


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
        (lambda: WideResNet(16, 2, out_indices=(4,)), 'out_indices.* .4,'),
    ],
)
def test_impossible_networks(build, words):
    with pytest.raises(ConfigError, match=words):
        build()

"""tools/model_converters/convert_official.py."""

import argparse
import collections
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

from hsakd.registry import MODELS
from hsakd.utils.checkpoint import load_network, read_checkpoint
from hsakd.utils.errors import CheckpointError, UserError
from tests.conftest import run_tool
from tests.golden_cases import NETWORKS, architectures, batch, golden, official_state_dict


@pytest.fixture
def convert(tool: Callable) -> Callable:
    return tool('model_converters/convert_official')


def shapes_only(arch: str) -> dict[str, Tensor]:
    """The keys and shapes of one of the authors' networks, all zeros: small files."""
    return {
        key: torch.zeros(()).expand(shape)
        for key, shape in architectures()[arch]['state_dict'].items()
    }


def resnet20() -> dict[str, Tensor]:
    return shapes_only('resnet20_aux')


@pytest.mark.parametrize('arch', NETWORKS)
def test_recognizes_each_network(
    arch: str, tmp_path: Path, convert: Callable, capsys: pytest.CaptureFixture
) -> None:
    spec = architectures()[arch]
    src, dst = tmp_path / 'theirs.pth.tar', tmp_path / 'new' / 'ours.pth'
    torch.save(dict(net=shapes_only(arch), acc=1.0, epoch=2, optimizer={}), src)
    convert([str(src), str(dst)])
    converted = read_checkpoint(dst, 'dst')
    assert converted['meta']['network'] == NETWORKS[arch]
    assert len(converted['state_dict']) == len(spec['state_dict'])
    parameters = spec['backbone_params'] + spec['auxiliary_params']
    out = capsys.readouterr().out
    assert f'{NETWORKS[arch]}, {spec["num_classes"]} classes, ' in out
    assert f'{len(spec["stage_feature_shapes"])} branches, {parameters:,} parameters' in out


@pytest.mark.parametrize(
    ('key', 'prefix', 'arch'),
    [('model', '', 'wrn_40_2_aux'), ('state_dict', 'module.', 'resnet20_aux')],
)
def test_converts_plain_networks_of_older_layouts(
    key: str, prefix: str, arch: str, tmp_path: Path, convert: Callable
) -> None:
    weights = {
        name.replace('backbone.', prefix, 1): value
        for name, value in shapes_only(arch).items()
        if name.startswith('backbone.')
    }
    torch.save({key: weights, 'epoch': 240}, tmp_path / 'theirs.pth')
    convert([str(tmp_path / 'theirs.pth'), str(tmp_path / 'ours.pth')])
    meta = read_checkpoint(tmp_path / 'ours.pth', 'dst')['meta']
    assert meta['network'] == NETWORKS[arch]
    assert 'branches' not in meta['model']


def test_converted_network_gives_their_logits(tmp_path: Path, convert: Callable) -> None:
    src, dst = tmp_path / 'theirs.pth.tar', tmp_path / 'ours.pth'
    torch.save(dict(net=official_state_dict('resnet20_aux')), src)
    convert([str(src), str(dst)])
    network = MODELS.build(read_checkpoint(dst, 'dst')['meta']['model']).double().eval()
    load_network(network, dst, 'model.teacher_ckpt')
    with torch.no_grad():
        logits, _ = network(network.transforms(batch(0)[0]))
    theirs = torch.from_numpy(golden('forward_resnet20_aux')['logits'])
    torch.testing.assert_close(logits, theirs, rtol=1e-9, atol=1e-9)


def test_replaces_a_file_only_with_force(tmp_path: Path, convert: Callable) -> None:
    src, dst = tmp_path / 'theirs.pth', tmp_path / 'ours.pth'
    torch.save(dict(net=resnet20()), src)
    dst.write_text('something of value')
    with pytest.raises(UserError, match='ours.pth'):
        convert([str(src), str(dst)])
    assert dst.read_text() == 'something of value'
    convert([str(src), str(dst), '--force'])
    assert 'state_dict' in read_checkpoint(dst, 'dst')
    convert([str(src), str(dst)])  # the same content again loses nothing
    assert sorted(p.name for p in tmp_path.iterdir()) == ['ours.pth', 'theirs.pth']


class _Attack:
    """Runs a command when it is unpickled."""

    def __init__(self, function: Callable, *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple:
        return self.call


def test_executes_nothing(tmp_path: Path) -> None:
    src, dst, marker = tmp_path / 'evil.pth', tmp_path / 'ours.pth', tmp_path / 'marker'
    attack = _Attack(os.system, f'touch {marker}')
    torch.save(dict(net=resnet20(), acc=attack), src)
    result = run_tool('tools/model_converters/convert_official.py', src, dst)
    assert result.returncode == 1
    assert re.match(r"error: SRC='.*evil.pth'.*system", result.stderr)
    assert 'Traceback' not in result.stderr
    assert not marker.exists() and not dst.exists()


def test_getattr_reaches_only_the_statistics_of_log_histories(tmp_path: Path) -> None:
    torch.save(dict(log=HistoryBuffer([1.0], [1])), tmp_path / 'log.pth')
    assert read_checkpoint(tmp_path / 'log.pth', 'SRC')['log'].mean() == 1
    torch.save(dict(x=_Attack(getattr, HistoryBuffer, '__init__')), tmp_path / 'evil.pth')
    with pytest.raises(CheckpointError, match="SRC='.*evil.pth'"):
        read_checkpoint(tmp_path / 'evil.pth', 'SRC')


def test_reads_plain_data_of_other_projects(tmp_path: Path) -> None:
    """Options of a command line, and numbers of numpy."""
    numbers = [np.float32(0.5), np.int32(3), np.bool_(True), np.float16(1), np.uint8(7)]
    torch.save(dict(opt=argparse.Namespace(lr=0.1), numbers=numbers), tmp_path / 'x.pth')
    content = read_checkpoint(tmp_path / 'x.pth', 'SRC')
    assert content['opt'].lr == 0.1 and content['numbers'] == numbers


@pytest.mark.parametrize('old', [False, True])
def test_converts_parts_trained_in_parallel_and_old_files(
    old: bool, tmp_path: Path, convert: Callable
) -> None:
    weights = resnet20()
    if old:  # of before PyTorch 0.4.1
        theirs = {k: v for k, v in weights.items() if not k.endswith('num_batches_tracked')}
        assert len(theirs) < len(weights)
    else:
        theirs = {f'module.{k.replace(".", ".module.", 1)}': v for k, v in weights.items()}
    torch.save(dict(net=theirs), tmp_path / 'theirs.pth')
    convert([str(tmp_path / 'theirs.pth'), str(tmp_path / 'ours.pth')])
    assert read_checkpoint(tmp_path / 'ours.pth', 'dst')['meta']['network'] == 'resnet20'


def _without(key: str) -> dict[str, Tensor]:
    weights = resnet20()
    del weights[key]
    return weights


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (dict(net=_without('backbone.layer2.0.bn1.weight')), 'closest to resnet20, but 1 weights'),
        (dict(net=resnet20() | {'backbone.extra': torch.zeros(1)}), 'resnet20, .*backbone.extra'),
        (
            dict(net={'features.0.weight': torch.zeros(2, 3), 'fc.weight': torch.zeros(5, 7)}),
            'resnet56.*backbone.features.0.weight',
        ),
        (
            dict(net=shapes_only('vgg13_bn_aux') | {'backbone.classifier.weight': torch.zeros(())}),
            'vgg13.*such as',
        ),
        (dict(net={3: torch.zeros(1)}), 'such as backbone.3'),
        (dict(net=dict(a=1)), 'a'),
        (dict(a=1, b=2), "'net': weights.* a, b"),
        (collections.OrderedDict(), 'OrderedDict'),
        (torch.zeros(3), 'Tensor'),
        (dict(state_dict={'head.fc.weight': torch.zeros(2, 3)}), 'head.fc.weight'),
    ],
)
def test_says_what_does_not_fit(
    content: object, message: str, tmp_path: Path, convert: Callable
) -> None:
    torch.save(content, tmp_path / 'theirs.pth')
    with pytest.raises(CheckpointError, match=f"SRC='.*theirs.pth': .*{message}"):
        convert([str(tmp_path / 'theirs.pth'), str(tmp_path / 'ours.pth')])
    assert not (tmp_path / 'ours.pth').exists()


def test_names_unusable_files(tmp_path: Path, convert: Callable) -> None:
    src, dst = tmp_path / 'theirs.pth', str(tmp_path / 'ours.pth')
    torch.save(dict(net=resnet20()), src)
    truncated = tmp_path / 'truncated.pth'
    truncated.write_bytes(src.read_bytes()[:1000])
    for unreadable in (tmp_path / 'none.pth', tmp_path, truncated):
        with pytest.raises(CheckpointError, match=f"SRC='{unreadable}'"):
            convert([str(unreadable), dst])
    for unusable in (tmp_path, src / 'below-a-file.pth'):
        with pytest.raises(UserError, match=f"'{unusable}'"):
            convert([str(src), str(unusable)])

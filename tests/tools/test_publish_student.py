"""tools/model_converters/publish_student.py."""

import copy
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from mmengine.config import Config
from torch import Tensor, nn

from hsakd.apis import export_onnx, load_classifier, publishing
from hsakd.registry import MODELS
from hsakd.utils.checkpoint import read_checkpoint
from hsakd.utils.errors import CheckpointError, ConfigError, UserError
from tests.conftest import ROOT, network_cfg

CLASSES = ('apple', 'bear', 'cloud', 'dolphin', 'elm')
MEAN, STD = [120.0, 110.0, 100.0], [60.0, 70.0, 80.0]


def in_memory(model: dict, kind: str = 'CIFAR10') -> dict:
    """A training config on images that a data set holds in memory, as RGB."""
    return dict(
        default_scope='hsakd',
        model=model,
        data_preprocessor=dict(mean=MEAN, std=STD, to_rgb=False),
        test_dataloader=dict(
            dataset=dict(type=kind, pipeline=[dict(type='mmpretrain.PackInputs')])
        ),
    )


def resnet18() -> dict:
    """A training config of the plain baseline on image files, all mmpretrain's but its class."""
    network = dict(
        type='BranchedClassifier',
        backbone=dict(
            type='mmpretrain.ResNet',
            depth=18,
            base_channels=8,
            stem_channels=8,
            init_cfg=dict(type='Pretrained', checkpoint='somewhere/private.pth'),
        ),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(
            type='mmpretrain.LinearClsHead',
            num_classes=5,
            in_channels=64,
            loss=dict(type='mmpretrain.CrossEntropyLoss'),
        ),
        data_preprocessor=dict(mean=MEAN, std=STD, to_rgb=True),
    )
    pipeline = [
        dict(type='LoadImage'),
        dict(type='mmpretrain.ResizeEdge', scale=72, edge='short'),
        dict(type='mmpretrain.CenterCrop', crop_size=64),
        dict(type='mmpretrain.PackInputs'),
    ]
    config = in_memory(network)
    config['test_dataloader']['dataset'] = dict(type='ImageFolder', pipeline=pipeline)
    return config


def build(config: dict) -> nn.Module:
    """A model with weights and running statistics unlike those of another one, in eval mode."""
    model = MODELS.build(copy.deepcopy(config)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight)
    return model


class Networks(nn.Module):
    """Two networks, as an online distiller keeps them."""

    def __init__(self, configs: list[dict]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(build(config) for config in configs)


def published_files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda p: ['.pth', '.py', '.onnx', '.json'].index(p.suffix))


@pytest.fixture
def publish(tool: Callable) -> Callable:
    return tool('model_converters/publish_student')


@pytest.fixture
def offline(tmp_path: Path, save_training_checkpoint: Callable) -> tuple[Path, nn.Module]:
    """A training checkpoint of an offline distiller, and the distiller."""
    config = dict(
        type='HSAKDOffline',
        student=network_cfg(depth=8),
        teacher=network_cfg(depth=14),
        teacher_ckpt='somewhere/private.pth',
    )
    model = build(config)
    save_training_checkpoint(tmp_path / 'epoch_3.pth', in_memory(config), model, CLASSES)
    return tmp_path / 'epoch_3.pth', model


def test_publishes_the_student_alone(
    offline: tuple, tmp_path: Path, publish: Callable, capsys: pytest.CaptureFixture
) -> None:
    checkpoint, distiller = offline
    publish([str(checkpoint), str(tmp_path / 'out' / 'student')])
    pth, py = published_files(tmp_path / 'out')
    digest = hashlib.sha256(pth.read_bytes()).hexdigest()[:8]
    assert pth.name == f'student-{digest}.pth' and py.name == f'student-{digest}.py'
    content = read_checkpoint(pth, 'model')
    assert set(content) == {'state_dict', 'meta'}
    wanted = distiller.student.state_dict()
    assert set(content['state_dict']) == {k for k in wanted if k.startswith(('backbone', 'head'))}
    assert all(torch.equal(v, wanted[k]) for k, v in content['state_dict'].items())
    assert content['meta']['dataset_meta'] == dict(classes=list(CLASSES))
    for text in (content['meta']['cfg'], py.read_text()):
        assert not any(word in text for word in ('teacher', 'branches', 'private', str(tmp_path)))
    out = capsys.readouterr().out
    parameters = sum(p.numel() for p in distiller.student.backbone.parameters())
    assert f'CIFARResNet, 5 classes, {parameters + 5 * 17:,} parameters' in out and str(pth) in out

    before = {p: p.stat().st_mtime_ns for p in (pth, py)}
    publish([str(checkpoint), str(tmp_path / 'out' / 'student')])
    assert before == {p: p.stat().st_mtime_ns for p in published_files(tmp_path / 'out')}


def test_names_files_after_the_experiment_in_a_folder(
    offline: tuple, tmp_path: Path, publish: Callable
) -> None:
    publish([str(offline[0]), f'{tmp_path}/out/'])
    assert all(p.name.startswith('an-experiment-') for p in published_files(tmp_path / 'out'))
    publish([str(offline[0]), str(tmp_path / 'out')])
    assert len(published_files(tmp_path / 'out')) == 2


@pytest.mark.parametrize('kind', ['baseline', 'teacher', 'frozen teacher', 'published'])
def test_loads_each_kind_of_checkpoint(
    kind: str, tmp_path: Path, save_training_checkpoint: Callable, publish: Callable
) -> None:
    config = network_cfg(branches='teacher' in kind)
    if 'teacher' in kind:
        config |= dict(type='HSAKDTeacher', frozen=kind == 'frozen teacher')
    model = build(config)
    path = tmp_path / 'epoch_3.pth'
    save_training_checkpoint(path, in_memory(config), model)
    if kind == 'published':
        publish([str(path), str(tmp_path / 'out' / 'x')])
        path = published_files(tmp_path / 'out')[0]
    classifier = load_classifier(path)
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(classifier(images), model.logits(images)[0])
    # The kind of data set knows its classes only where they are as many as those of the head.
    assert classifier._dataset_meta == {}


def test_publishes_either_network_of_an_online_distiller(
    tmp_path: Path, save_training_checkpoint: Callable, publish: Callable
) -> None:
    configs = [network_cfg(depth=8), network_cfg(depth=14)]
    model, path = Networks(configs), tmp_path / 'epoch_3.pth'
    save_training_checkpoint(path, in_memory(dict(type='HSAKDOnline', networks=configs)), model)
    images = torch.randn(2, 3, 32, 32)
    for option, index in (([], 0), (['--network', '0'], 0), (['--network', '1'], 1)):
        publish([str(path), str(tmp_path / f'out{option}' / 'x'), *option])
        with torch.no_grad():
            logits = load_classifier(published_files(tmp_path / f'out{option}')[0])(images)
            assert torch.equal(logits, model.networks[index].logits(images)[0])
    with pytest.raises(ConfigError, match=r'network: .*0\.\.1 .* 2'):
        publish([str(path), str(tmp_path / 'x'), '--network', '2'])


SCRIPT = """
import sys
import numpy as np
import torch
from mmpretrain import ImageClassificationInferencer, get_model

plain, ours, images, logits = sys.argv[1:]
images, logits = torch.load(images), torch.load(logits)
for config in (plain, ours):
    assert 'hsakd' not in sys.modules
    model = get_model(config, pretrained=True)
    with torch.no_grad():
        found = model(images)
    assert torch.equal(found, logits[config]), (found - logits[config]).abs().max()
    by_name = get_model(config, pretrained=config.replace('.py', '.pth'))
    assert torch.equal(by_name.head.fc.weight, model.head.fc.weight)
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    (result,) = ImageClassificationInferencer(config)(image)
    assert result['pred_class'] in ('apple', 'bear', 'cloud', 'dolphin', 'elm'), result
    assert len(result['pred_scores']) == 5
assert 'hsakd' in sys.modules
print('done')
"""


def test_mmpretrain_loads_the_files(
    offline: tuple, tmp_path: Path, save_training_checkpoint: Callable, publish: Callable
) -> None:
    """Without hsakd where the backbone is mmpretrain's; else the config imports it."""
    config = resnet18()
    model = build(config['model'])
    save_training_checkpoint(tmp_path / 'resnet18.pth', config, model, CLASSES)
    publish([str(tmp_path / 'resnet18.pth'), str(tmp_path / 'plain' / 'resnet18')])
    publish([str(offline[0]), str(tmp_path / 'ours' / 'resnet8')])
    plain, ours = published_files(tmp_path / 'plain')[1], published_files(tmp_path / 'ours')[1]
    assert 'hsakd' not in plain.read_text()

    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        logits = {
            str(plain): model.logits(images)[0], str(ours): offline[1].student.logits(images)[0]
        }  # fmt: skip
    torch.save(images, tmp_path / 'images.pt')
    torch.save(logits, tmp_path / 'logits.pt')
    result = subprocess.run(
        [sys.executable, '-c', SCRIPT, plain, ours, tmp_path / 'images.pt', tmp_path / 'logits.pt'],
        cwd=tmp_path,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith('done\n')


def normalized(images: Tensor) -> Tensor:
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def test_onnx_takes_raw_rgb_images(offline: tuple, tmp_path: Path, publish: Callable) -> None:
    checkpoint, distiller = offline
    publish([str(checkpoint), str(tmp_path / 'out' / 'x'), '--onnx'])
    *_, model, description = published_files(tmp_path / 'out')
    session = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider'])
    for num in (1, 4):
        images = torch.randint(0, 256, (num, 3, 32, 32)).float()
        (found,) = session.run(['logits'], {'images': images.numpy()})
        with torch.no_grad():
            wanted = distiller.student.logits(normalized(images))[0]
        np.testing.assert_allclose(found, wanted.numpy(), atol=1e-4, rtol=0)
    properties = {p.key: p.value for p in onnx.load(model).metadata_props}
    assert json.loads(properties['classes']) == list(CLASSES)
    assert '[N, 3, 32, 32], RGB, 0..255' in properties['input']
    assert [step['type'] for step in json.loads(properties['resize'])] == [
        'mmpretrain.ResizeEdge',
        'mmpretrain.CenterCrop',
    ]
    described = json.loads(description.read_text())
    assert described['classes'] == list(CLASSES) and described['input'] == properties['input']
    assert onnx.load(model).opset_import[0].version == int(described['opset'])


def test_onnx_of_a_network_trained_on_bgr_takes_rgb(
    tmp_path: Path, save_training_checkpoint: Callable
) -> None:
    config = resnet18()
    config['model']['data_preprocessor']['to_rgb'] = False  # and its files are read as BGR
    model = build(config['model'])
    save_training_checkpoint(tmp_path / 'bgr.pth', config, model)
    content, _ = export_onnx(load_classifier(tmp_path / 'bgr.pth'))
    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    rgb = torch.randint(0, 256, (2, 3, 64, 64)).float()
    (found,) = session.run(None, {'images': rgb.numpy()})
    with torch.no_grad():
        wanted = model.logits(normalized(rgb.flip(1)))[0]
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    'backbone',
    [
        (dict(type='WideResNet', depth=10, widen_factor=1), 64),
        (dict(type='CIFARMobileNetV2'), 1280),
        (dict(type='CIFARShuffleNetV1'), 960),
        (dict(type='CIFARShuffleNetV2'), 1024),
        (dict(type='CIFARVGG'), 512),
    ],
    ids=lambda backbone: backbone[0]['type'],
)
def test_onnx_of_each_family(
    backbone: tuple, tmp_path: Path, save_training_checkpoint: Callable
) -> None:
    config = network_cfg(branches=False)
    config['backbone'], config['head']['in_channels'] = backbone
    save_training_checkpoint(tmp_path / 'x.pth', in_memory(config), build(config))
    _, difference = export_onnx(load_classifier(tmp_path / 'x.pth'))
    assert difference < 1e-4


def test_writes_nothing_when_onnx_differs(
    offline: tuple, tmp_path: Path, publish: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, 'ONNX_TOLERANCE', -1.0)
    with pytest.raises(UserError, match='ONNX model'):
        publish([str(offline[0]), str(tmp_path / 'out' / 'x'), '--onnx'])
    assert not (tmp_path / 'out').exists()


def test_writes_nothing_when_logits_differ(
    offline: tuple, tmp_path: Path, publish: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmpretrain.models import LinearClsHead  # after hsakd, which prepares mmcv

    forward = LinearClsHead.forward
    # Adds noise, so that no two passes agree.
    monkeypatch.setattr(
        LinearClsHead, 'forward', lambda self, feats: forward(self, feats) + torch.rand(())
    )
    with pytest.raises(CheckpointError, match='epoch_3.pth.* logits off by'):
        publish([str(offline[0]), str(tmp_path / 'out' / 'x')])
    assert not (tmp_path / 'out').exists()


def test_keeps_a_config_that_somebody_changed(
    offline: tuple, tmp_path: Path, publish: Callable
) -> None:
    publish([str(offline[0]), str(tmp_path / 'out' / 'x')])
    py = published_files(tmp_path / 'out')[1]
    py.write_text('changed = True\n')
    with pytest.raises(UserError, match=r'x-.*\.py'):
        publish([str(offline[0]), str(tmp_path / 'out' / 'x')])
    assert py.read_text() == 'changed = True\n'
    publish([str(offline[0]), str(tmp_path / 'out' / 'x'), '--force'])
    assert 'load_from' in py.read_text()


def test_takes_the_config_of_a_checkpoint_without_one(
    offline: tuple, tmp_path: Path, publish: Callable
) -> None:
    checkpoint = tmp_path / 'bare.pth'
    torch.save(dict(state_dict=offline[1].student.state_dict()), checkpoint)
    with pytest.raises(CheckpointError, match=r'bare.pth.*meta.cfg'):
        publish([str(checkpoint), str(tmp_path / 'out' / 'x')])
    config = Config(in_memory(network_cfg()))
    config.dump(tmp_path / 'config.py')
    publish([str(checkpoint), str(tmp_path / 'out' / 'x'), '--config', str(tmp_path / 'config.py')])
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        logits = load_classifier(published_files(tmp_path / 'out')[0])(images)
        assert torch.equal(logits, offline[1].student.logits(images)[0])


@pytest.mark.parametrize(
    'content', [torch.zeros(3), [1, 2], {}, {1: torch.zeros(2)}, dict(state_dict=[3]), dict(a=1)]
)
def test_says_that_there_is_no_network(content: object, tmp_path: Path, publish: Callable) -> None:
    torch.save(content, tmp_path / 'foreign.pth')
    Config(in_memory(network_cfg())).dump(tmp_path / 'config.py')
    args = [str(tmp_path / 'foreign.pth'), str(tmp_path / 'out' / 'x')]
    with pytest.raises(CheckpointError, match='foreign.pth.*meta.cfg'):
        publish(args)
    with pytest.raises(CheckpointError, match='foreign.pth'):
        publish([*args, '--config', str(tmp_path / 'config.py')])


def changed(**changes: object) -> dict:
    """A config whose network is another than that of its checkpoint."""
    return dict(model=network_cfg() | changes)


def pipeline_of(dataset: str, step: str) -> dict:
    return dict(test_dataloader=dict(dataset=dict(type=dataset, pipeline=[dict(type=step)])))


@pytest.mark.parametrize(
    ('changes', 'error', 'message'),
    [
        (dict(model=dict(type='mmdet.RPN', backbone={})), ConfigError, 'model.type: .*mmdet.RPN'),
        (dict(model=None), ConfigError, 'model: .*None'),
        (dict(model=network_cfg(14)), CheckpointError, 'epoch_3.pth.*CIFARResNet.* 84 weights'),
        (dict(model=network_cfg(num_classes=7)), CheckpointError, '5 classes.* 7 .*num_classes'),
        (changed(backbone=dict(type='CIFARResNet')), ConfigError, "model: .*'depth'"),
        (changed(backbone=dict(type='NoSuchNet')), ConfigError, 'model.backbone.type.*NoSuchNet'),
        (changed(neck=dict(type='os.system', command='exit')), ConfigError, 'neck.type.*os.system'),
        (dict(test_dataloader=None), ConfigError, 'test_dataloader.dataset.pipeline'),
        (pipeline_of('ImageFolder', 'mmpretrain.PackInputs'), ConfigError, 'pipeline.*ImageFolder'),
        (pipeline_of('CIFAR10', 'Nonsense'), ConfigError, 'pipeline.*Nonsense'),
        (dict(custom_imports=dict(imports=['no_such'])), ConfigError, 'custom_imports.*no_such'),
    ],
)
def test_says_what_is_wrong_with_a_config(
    changes: dict,
    error: type[Exception],
    message: str,
    tmp_path: Path,
    save_training_checkpoint: Callable,
    publish: Callable,
) -> None:
    config = in_memory(network_cfg()) | changes
    save_training_checkpoint(tmp_path / 'epoch_3.pth', config, build(network_cfg()))
    with pytest.raises(error, match=message):
        publish([str(tmp_path / 'epoch_3.pth'), str(tmp_path / 'out' / 'x')])
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    'text',
    [
        '__import__("pathlib").Path("{marker}").touch()',
        'x = __import__("pathlib").Path("{marker}").touch()',
        'model = dict(type=open("{marker}", "w").name)',
        'model = [x for x in [open("{marker}", "w")]]',
        'model = f"{{open(chr(47), 1)}}"',
        'model = (',
        'model = ' + '[' * 5000,
    ],
)
def test_runs_no_program_for_a_config(text: str, tmp_path: Path, publish: Callable) -> None:
    marker = tmp_path / 'marker'
    meta = dict(cfg=text.replace('{marker}', str(marker)))
    torch.save(dict(meta=meta, state_dict={}), tmp_path / 'evil.pth')
    with pytest.raises(CheckpointError, match='evil.pth.*meta.cfg'):
        publish([str(tmp_path / 'evil.pth'), str(tmp_path / 'out' / 'x')])
    assert not marker.exists()


def test_names_of_classes_have_to_be_as_many(
    tmp_path: Path, save_training_checkpoint: Callable, publish: Callable
) -> None:
    path = tmp_path / 'epoch_3.pth'
    save_training_checkpoint(path, in_memory(network_cfg()), build(network_cfg()), CLASSES[:3])
    with pytest.raises(CheckpointError, match='meta.dataset_meta.classes: .*5 .* 3'):
        publish([str(path), str(tmp_path / 'out' / 'x')])


def test_number_of_a_network_is_a_number(publish: Callable, capsys: pytest.CaptureFixture) -> None:
    for number in ('-1', 'x'):
        with pytest.raises(SystemExit):
            publish(['x.pth', 'out', f'--network={number}'])
        assert re.search(f"--network: .*'{number}'", capsys.readouterr().err)

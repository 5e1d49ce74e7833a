"""Checkpoints as others write them, where a user names them."""

import json
import struct
from argparse import Namespace
from pathlib import PosixPath

import pytest
import torch
import torchvision

from hsakd.registry import MODELS
from tests.conftest import ROOT, write_image_folder
from tests.imagenet_files import save_torchvision

CONFIG = """
_base_ = {base!r}
train_cfg = dict(max_iters=1, val_interval=1)
train_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(data_root='{root}'))
val_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(data_root='{root}'))
test_dataloader = val_dataloader
model = dict(head=dict(num_classes=3))
"""


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    """A ResNet-18 of torchvision's, the file of its weights, and a config that takes it."""
    folder = tmp_path_factory.mktemp('network')
    theirs = save_torchvision(folder / 'resnet18.pth')
    root = write_image_folder(folder / 'images', classes=('a', 'b', 'c'), size=64)
    base = str(ROOT / 'configs/baseline/resnet18_1xb32-300i_images64.py')
    (folder / 'config.py').write_text(CONFIG.format(base=base, root=root))
    return theirs, folder


@pytest.fixture
def scores(network, in_process, tmp_path):
    """Run tools/test.py with a file: status, stderr, and the scores of the images."""

    def run(content, name='theirs.pth', *options):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            torch.save(content, path)
        out = tmp_path / 'scores.pth'
        status, error = in_process(
            *('tools/test.py', network[1] / 'config.py', path, '--work-dir', tmp_path / 'w'),
            *('--out', out, *options),
        )
        assert 'Traceback' not in error
        found = torch.load(out) if out.is_file() else ()
        out.unlink(missing_ok=True)
        return status, error, [sample['pred_score'] for sample in found]

    return run


def prefixed(prefix, weights):
    return {prefix + name: value for name, value in weights.items()}


def zeros(weights):
    return {name: torch.zeros_like(value) for name, value in weights.items()}


ADDED = {'criterion.weight': torch.ones(3), 'train_acc.tp': torch.zeros(3)}
#: What others write for a state dict.
FILES = {
    'references': lambda w: dict(model=w, epoch=3, args=Namespace(output_dir=PosixPath('x'))),
    'averaged, of references': lambda w: dict(
        model=zeros(w), model_ema=dict(n_averaged=torch.tensor(3)) | prefixed('module.', w)
    ),
    'timm': lambda w: dict(state_dict=w, arch='resnet18', version=2, metric=71.3),
    'averaged, of timm': lambda w: dict(state_dict=zeros(w), state_dict_ema=w),
    'Lightning': lambda w: dict(
        {'pytorch-lightning_version': '2.1.0', 'hyper_parameters': dict(lr=0.1)},
        state_dict=prefixed('model.', w) | ADDED,
    ),
    'Lightning, net': lambda w: dict(state_dict=prefixed('net.', w) | ADDED),
    'several processes': lambda w: prefixed('module.', w),
    'compiled': lambda w: prefixed('_orig_mod.', w),
    'compiled, several processes': lambda w: dict(model=prefixed('module._orig_mod.', w)),
    'Lightning, compiled': lambda w: dict(state_dict=prefixed('model._orig_mod.', w)),
    'a tutorial': lambda w: dict(model_state_dict=w, optimizer_state_dict={}, loss=0.3),
    'a tutorial, net': lambda w: dict(net=prefixed('module.', w), acc=93.0, epoch=3),
}


@pytest.fixture(scope='module')
def expected(network, tmp_path_factory):
    """The state dict, as files have it."""
    return network[0].state_dict()


@pytest.mark.parametrize('kind', FILES)
def test_weights_are_found_where_others_keep_them(kind, scores, expected):
    plain = scores(expected)
    assert plain[0] == 0, plain[1]
    found = scores(FILES[kind](expected))
    assert found[0] == 0, found[1]
    assert len(plain[2]) == 12
    for one, other in zip(plain[2], found[2], strict=True):
        assert torch.equal(one, other)


def safetensors(weights):
    """The bytes of a file, as the package of the format writes them."""
    names = {torch.float32: 'F32', torch.int64: 'I64'}
    header, data = {'__metadata__': {'format': 'pt'}}, b''
    for name, value in weights.items():
        start, data = len(data), data + value.contiguous().numpy().tobytes()
        header[name] = dict(
            dtype=names[value.dtype], shape=list(value.shape), data_offsets=[start, len(data)]
        )
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    return struct.pack('<Q', len(text)) + text + data


def test_safetensors(scores, expected):
    plain = scores(expected)[2]
    for name in ('model.safetensors', 'model.pth'):
        status, error, found = scores(safetensors(expected), name)
        assert status == 0, error
        assert all(torch.equal(one, other) for one, other in zip(plain, found, strict=True))
    lightning = safetensors(prefixed('model.', expected))
    assert scores(lightning, 'model.safetensors')[0] == 0


@pytest.mark.parametrize(
    'damage',
    [
        lambda content: content[:-100],
        lambda content: content + b'more',
        lambda content: content[:20],
        lambda content: content[:4],
        lambda content: b'\xff' * 8 + content[8:],
        lambda content: content.replace(b'"F32"', b'"F99"', 1),
        lambda content: content.replace(b'"shape":', b'"sharp":', 1),
        lambda content: content[:8] + b'[' + content[9:],
    ],
)
def test_damaged_safetensors(damage, scores, expected):
    status, error, _ = scores(damage(safetensors(expected)), 'model.safetensors')
    assert status == 1
    assert error.count('\n') <= 2
    assert 'model.safetensors' in error
    assert 'safetensors file' in error


def test_programs_and_modules_are_named(scores, network, tmp_path):
    module = torchvision.models.squeezenet1_0()
    torch.jit.script(module).save(tmp_path / 'script.pt')
    status, error, _ = scores(None, 'script.pt')
    assert status == 1
    assert 'script.pt' in error
    assert 'got a TorchScript archive' in error
    assert 'torch.jit.load(FILE).state_dict()' in error
    inputs = (torch.zeros(1, 3, 64, 64),)
    torch.export.save(torch.export.export(module.eval(), inputs), tmp_path / 'program.pt2')
    status, error, _ = scores(None, 'program.pt2')
    assert status == 1
    assert 'got a program of torch.export' in error
    for content in (network[0], dict(model=network[0], epoch=3)):
        status, error, _ = scores(content)
        assert status == 1
        assert 'torchvision.models.resnet.ResNet' in error
        assert 'a pickled module' in error
        assert 'state_dict()' in error


def test_a_trusted_module_is_read(scores, expected, network):
    plain = scores(expected)[2]
    for content in (network[0], dict(model=network[0])):
        status, error, found = scores(content, 'module.pth', '--trust-checkpoint')
        assert status == 0, error
        assert all(torch.equal(one, other) for one, other in zip(plain, found, strict=True))


def test_classifiers_of_mmpretrain_take_them(network, scores, expected):
    config = network[1] / 'config.py'
    text = config.read_text()
    plain = scores(expected)[2]
    try:
        config.write_text(text + "\nmodel.update(type='mmpretrain.ImageClassifier')\n")
        status, error, found = scores(dict(model=prefixed('module.', expected)))
    finally:
        config.write_text(text)
    assert status == 0, error
    torch.testing.assert_close(torch.stack(found), torch.stack(plain))


def test_half_a_match_is_refused(scores, expected):
    some = dict(list(expected.items())[:-5])
    for content in (dict(model=some), prefixed('model.', some), safetensors(some)):
        status, error, _ = scores(content)
        assert status == 1
        assert 'weights are missing from the checkpoint' in error


@pytest.mark.parametrize('kind', ['Lightning', 'averaged, of references', 'a tutorial'])
def test_trainings_start_from_them(kind, network, expected, in_process, tmp_path):
    torch.save(FILES[kind](expected), tmp_path / 'theirs.pth')
    options = 'train_cfg.max_iters=1', 'optim_wrapper.optimizer.lr=0'
    status, error = in_process(
        *(
            'tools/train.py',
            network[1] / 'config.py',
            '--work-dir',
            tmp_path / 'w',
            '--no-validate',
        ),
        *('--cfg-options', f'load_from={tmp_path / "theirs.pth"}', *options),
    )
    assert status == 0, error
    found = torch.load(tmp_path / 'w' / 'iter_1.pth', weights_only=False)['state_dict']
    assert torch.equal(found['backbone.layer4.1.conv2.weight'], expected['layer4.1.conv2.weight'])
    assert torch.equal(found['head.fc.weight'], expected['fc.weight'])


def test_vgg_of_torchvision_starts_a_backbone(network, in_process, tmp_path):
    theirs = torchvision.models.vgg11(num_classes=3)
    torch.save(dict(model=theirs.state_dict()), tmp_path / 'vgg.pth')
    config = tmp_path / 'config.py'
    config.write_text(
        (network[1] / 'config.py').read_text()
        + "\nmodel.update(backbone=dict(_delete_=True, type='mmpretrain.VGG', depth=11))\n"
        "model['head'].update(in_channels=512)\n"
        'optim_wrapper = dict(optimizer=dict(lr=0.0))\n'
    )
    status, error = in_process(
        *('tools/train.py', config, '--work-dir', tmp_path / 'w', '--no-validate'),
        *('--cfg-options', f'load_from={tmp_path / "vgg.pth"}'),
    )
    assert status == 0, error
    found = torch.load(tmp_path / 'w' / 'iter_1.pth', weights_only=False)['state_dict']
    weights = theirs.state_dict()
    assert torch.equal(found['backbone.features.11.conv.weight'], weights['features.18.weight'])


BACKBONES = {
    'resnet18': dict(type='mmpretrain.ResNet', depth=18),
    'mobilenet_v2': dict(type='mmpretrain.MobileNetV2'),
    'convnext_tiny': dict(type='mmpretrain.ConvNeXt', arch='tiny'),
}


@pytest.mark.parametrize(
    'name, write, prefix',
    [
        ('resnet18', lambda w: w, None),
        ('resnet18', lambda w: dict(model=w), None),
        ('resnet18', lambda w: dict(state_dict=prefixed('model.', w)), None),
        ('resnet18', safetensors, None),
        ('resnet18', lambda w: prefixed('backbone.', w), None),
        ('resnet18', lambda w: prefixed('backbone.', w), 'backbone.'),
        ('resnet18', lambda w: prefixed('module.backbone.', w), 'backbone'),
        ('mobilenet_v2', lambda w: w, None),
        ('mobilenet_v2', lambda w: dict(model=prefixed('module.', w)), 'backbone.'),
        ('convnext_tiny', lambda w: w, None),
    ],
)
def test_a_backbone_starts_from_them(name, write, prefix, tmp_path):
    """By mmengine's ``init_cfg``, which starts at random what does not match."""
    theirs = getattr(torchvision.models, name)(num_classes=3).eval()
    content = write(theirs.state_dict())
    path = tmp_path / 'theirs.pth'
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix=prefix)
    backbone = MODELS.build(BACKBONES[name] | dict(init_cfg=init_cfg))
    backbone.init_weights()
    backbone.eval()  # which gives nothing back
    images = torch.randn(1, 3, 64, 64)
    layers = list(theirs.children())
    body = torch.nn.Sequential(*layers[:-2]) if name == 'resnet18' else theirs.features
    with torch.no_grad():
        expected = body(images)
        if name == 'convnext_tiny':
            expected = theirs.classifier[:2](theirs.avgpool(expected))
        torch.testing.assert_close(backbone(images)[-1], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    'theirs, words',
    [
        ('resnet34', 'weights of the checkpoint have no place: layer1.2'),
        ('mobilenet_v2', 'weights are missing from the checkpoint'),
        ('resnet50', 'weights have another shape'),
    ],
)
def test_a_backbone_does_not_start_from_another_one(theirs, words, network, in_process, tmp_path):
    save_torchvision(tmp_path / 'theirs.pth', theirs)
    config = tmp_path / 'config.py'
    start = dict(type='Pretrained', checkpoint=str(tmp_path / 'theirs.pth'))
    text = (network[1] / 'config.py').read_text()
    config.write_text(f'{text}\nmodel.update(backbone=dict(init_cfg={start!r}))\n')
    status, error = in_process('tools/train.py', config, '--work-dir', tmp_path / 'w')
    assert status == 1
    assert "error: init_cfg.checkpoint='" in error
    assert words in error

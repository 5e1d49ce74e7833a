"""From a folder of images to a published student, in one call."""

import contextlib
import io
import json
import re
import shutil

import mmpretrain
import numpy as np
import onnxruntime
import pytest
import timm
import torch
import torchvision
from mmengine.logging import MMLogger
from PIL import Image

from hsakd.apis.distillation import distill
from hsakd.apis.network_names import network_config, with_branches
from hsakd.apis.own_images import look_at
from hsakd.engine.loading import load_what_fits, starting_weights
from hsakd.registry import MODELS
from hsakd.utils.checkpoint import load_network, read_checkpoint
from hsakd.utils.errors import CheckpointError, ConfigError, DataError


def make_folder(root, classes=('cat', 'dog', 'frog'), count=10, size=12):
    random = np.random.default_rng(0)
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 80, (size, size), dtype=np.uint8) + 80 * label
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f'{i}.png')
    return root


def test_one_call(tmp_path):
    photos = make_folder(tmp_path / 'my photos')
    out = tmp_path / 'out'
    shown = io.StringIO()  # as a cell of a notebook, which has no file descriptor
    with contextlib.redirect_stdout(shown):
        made = distill(photos, 'resnet8', 'resnet20', epochs=1, out=out)
    lines = shown.getvalue()
    assert lines.count('24 to train on, 6 to validate on') == lines.count('trained ') == 3
    assert lines.index('[1/3] hsakd-teacher') < lines.index('Epoch(val)') < lines.index('[2/3] ')
    assert 'tools/test.py' not in lines  # next comes the report
    assert set(made.metrics) == {'student', 'plain', 'teacher'} and made.report.is_file()
    names = sorted(path.name for path in (out / 'configs').glob('*.py'))
    assert names == [
        'hsakd-offline_resnet20_resnet8_1xb16-1e_my-photos.py',
        'hsakd-teacher_resnet20_1xb16-1e_my-photos.py',
        'resnet8_1xb16-1e_my-photos.py',
    ]
    # Called again with other settings or images, it changes nothing.
    before = {path: path.read_bytes() for path in out.rglob('*') if path.is_file()}
    with pytest.raises(ConfigError, match='out=.*or another folder, got others: recipe.py'):
        distill(photos, 'resnet8', 'resnet20', epochs=1, out=out, seed=3)
    shutil.copy(photos / 'cat/0.png', photos / 'cat/more.png')
    with pytest.raises(ConfigError, match='got others: .*train.txt'):
        distill(photos, 'resnet8', 'resnet20', epochs=1, out=out)
    (photos / 'cat/more.png').unlink()
    assert before == {path: path.read_bytes() for path in out.rglob('*') if path.is_file()}

    best = made.predict(photos / 'cat/0.png')[0]
    assert sorted(best.classes) == ['cat', 'dog', 'frog']
    session = onnxruntime.InferenceSession(str(made.onnx))
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata['classes']) == ['cat', 'dog', 'frog']
    assert session.run(None, {'images': np.zeros((2, 3, 32, 32), np.float32)})[0].shape == (2, 3)

    # A plain classifier of these classes is the teacher, whose branches alone are trained.
    (photos / 'cat/broken.png').write_bytes((photos / 'cat/0.png').read_bytes()[:60])
    plain = out / 'work_dirs/resnet8_1xb16-1e_my-photos/epoch_1.pth'
    options = dict(teacher_weights=plain, baseline=False, epochs=1, out=tmp_path / 'frozen')
    networks = 'timm/test_efficientnet', 'resnet8'
    made = distill(photos, *networks, skip_bad_images=True, **options)
    assert set(made.metrics) == {'student', 'teacher'}
    verdict = (
        r'test-efficientnet \(hsakd-offline\): .* (than|as) its teacher resnet8 \(hsakd-teacher'
    )
    assert re.search(verdict, made.report.read_text())
    frozen = 'hsakd-teacher-frozen_resnet8_1xb16-1e_my-photos'
    assert (tmp_path / f'frozen/work_dirs/{frozen}/epoch_1.pth').is_file()
    classifier = mmpretrain.get_model(str(made.student.with_suffix('.py')), pretrained=True).eval()
    images = torch.rand(2, 3, 32, 32) * 255  # RGB for ONNX, BGR as mmcv reads them
    (logits,) = onnxruntime.InferenceSession(made.onnx).run(None, {'images': images.numpy()})
    expected = classifier(classifier.data_preprocessor(dict(inputs=images.flip(1)))['inputs'])
    assert np.allclose(logits, expected.detach(), atol=1e-4)


def test_splits_and_sizes(tmp_path):
    found = look_at(make_folder(tmp_path / 'small'), tmp_path / 'out')
    assert found.count == (24, 6) and found.size == 32 and found.classes == ['cat', 'dog', 'frog']
    held_out = found.files[tmp_path / 'out/split/test.txt'].decode().splitlines()
    assert [line.split('\t')[1] for line in held_out] == ['cat'] * 2 + ['dog'] * 2 + ['frog'] * 2
    for part in ('train', 'val'):
        make_folder(tmp_path / f'parted/{part}', size=200)
    found = look_at(tmp_path / 'parted', tmp_path / 'out')
    assert found.count == (30, 30) and found.size == 224
    with pytest.raises(DataError, match='two images or more of each class.*got .*lone'):
        make_folder(tmp_path / 'small', ('lone',), 1)
        look_at(tmp_path / 'small', tmp_path / 'out')
    with pytest.raises(DataError, match='no such folder'):
        look_at(tmp_path / 'none', tmp_path / 'out')


@pytest.mark.parametrize(
    'name, kind, features',
    [
        ('resnet18', 'mmpretrain.ResNet_CIFAR', 512),
        ('torchvision/resnet18', 'mmpretrain.ResNet', 512),
        ('wrn-16-2', 'WideResNet', 128),
        ('mobilenet_v2', 'mmpretrain.MobileNetV2', 1280),
        ('convnext_tiny', 'mmpretrain.ConvNeXt', 768),
        ('mmpretrain/resnet34_8xb32_in1k', 'mmpretrain.ResNet', 512),
    ],
)
def test_networks_by_name(name, kind, features):
    network = network_config(name, 5, 64, 'student')
    assert network['backbone']['type'] == kind and network['head']['in_channels'] == features
    assert with_branches(network, 2)['branches']['type'] == 'AuxiliaryBranches'


@pytest.mark.parametrize(
    'name, words',
    [('resnet81', 'nearest.*resnet'), ('timm/resnet81', 'nearest.*resnet'), ('', 'one of')],
)
def test_names_that_are_none(name, words):
    with pytest.raises(ConfigError, match=f'student=.*{words}'):
        network_config(name, 5, 32, 'student')


def test_arguments_that_cannot_be(tmp_path):
    photos = make_folder(tmp_path / 'photos')
    with pytest.raises(ConfigError, match='out=.*: expected a folder outside of data'):
        distill(photos, out=photos / 'runs')
    with pytest.raises(ConfigError, match="method='sskd': expected one of at, cc.*hsakd"):
        distill(photos, method='sskd', out=tmp_path / 'out')
    with pytest.raises(ConfigError, match='image_size: expected a number of pixels'):
        distill(photos, image_size=3, out=tmp_path / 'out')


@pytest.fixture
def written(monkeypatch):
    """Write the configs of a call, and train nothing: names of the configs."""

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr('hsakd.apis.distillation.train', stop)

    def write(*args, out, **kwargs):
        with pytest.raises(KeyboardInterrupt):
            distill(*args, out=out, epochs=1, **kwargs)
        return sorted(path.name.split('_1xb')[0] for path in (out / 'configs').glob('*.py'))

    return write


def test_weights_of_the_same_classes_are_the_teacher(tmp_path, written, capsys):
    photos = make_folder(tmp_path / 'photos')
    network = MODELS.build(network_config('resnet8', 3, 32, 'teacher'))
    file = tmp_path / 'weights.pth'
    networks = photos, 'resnet8', 'resnet8'
    for number, (classes, frozen) in enumerate(
        [(['cat', 'dog', 'frog'], True), (['a', 'b', 'c'], False), ([], True)]
    ):
        meta = dict(dataset_meta=dict(classes=classes))
        torch.save(dict(state_dict=network.state_dict(), meta=meta), file)
        names = written(*networks, teacher_weights=file, out=tmp_path / f'out{number}')
        assert names[1] == f'hsakd-teacher{"-frozen" * frozen}_resnet8-teacher'
    assert 'names no classes: taken for those of the images' in capsys.readouterr().out
    torch.save(network, file)
    options = dict(teacher_weights=file, out=tmp_path / 'trusted')
    with pytest.raises(CheckpointError, match='--trust-checkpoint'):
        distill(*networks, **options)
    names = written(*networks, **options, trust_checkpoint=True)
    assert names[1] == 'hsakd-teacher-frozen_resnet8-teacher'
    (tmp_path / 'out0/work_dirs/begun').mkdir(parents=True)
    (tmp_path / 'out0/work_dirs/begun/epoch_1.pth').touch()
    torch.save(dict(state_dict=network.state_dict()), file)
    with pytest.raises(ConfigError, match='got others: teacher_weights.pth'):
        distill(*networks, epochs=1, teacher_weights=file, out=tmp_path / 'out0')


def test_weights_of_another_stem(tmp_path):
    file = tmp_path / 'weights.pth'
    torch.save(torchvision.models.resnet18(num_classes=3).state_dict(), file)
    words = "teacher_weights=.*a stem of 3x3; ImageNet's is torchvision/resnet18, got .*7, 7"
    photos = make_folder(tmp_path / 'photos')
    with pytest.raises(CheckpointError, match=words):
        distill(photos, teacher='resnet18', teacher_weights=file, out=tmp_path / 'out')


def test_networks_of_like_names_have_configs_of_their_own(tmp_path, written):
    photos = make_folder(tmp_path / 'photos')
    names = written(photos, 'mobilenet-v2', 'mobilenet_v2', method='kd', out=tmp_path / 'out')
    assert names == ['kd_mobilenet-v2-teacher_mobilenet-v2', 'mobilenet-v2', 'mobilenet-v2-teacher']


def test_fine_tuned_classifier_of_timm(tmp_path):
    theirs = timm.create_model('test_resnet', num_classes=3).eval()
    torch.save(theirs.state_dict(), tmp_path / 'theirs.pth')
    network = MODELS.build(network_config('timm/test_resnet', 3, 64, 'teacher')).eval()
    load_network(network, tmp_path / 'theirs.pth', 'teacher_weights')
    images = torch.randn(2, 3, 64, 64)
    assert torch.allclose(network(images)[0], theirs(images), atol=1e-5)


def test_start_from_a_file_of_timm(tmp_path):
    theirs = timm.create_model('test_convnext', num_classes=7).eval()  # has a last norm beside
    file = str(tmp_path / 'theirs.pth')
    torch.save(theirs.state_dict(), file)
    network = MODELS.build(network_config('timm/test_convnext', 3, 64, 'teacher')).eval()
    weights = starting_weights(network, read_checkpoint(file, 'load_from'), file)
    load_what_fits(network, weights, file, MMLogger.get_current_instance())
    images = torch.randn(2, 3, 64, 64)
    expected = theirs.forward_intermediates(images, norm=False, intermediates_only=True)
    assert torch.allclose(network.backbone(images)[-1], expected[-1], atol=1e-5)


def test_bad_images_may_be_skipped_from_then_on(tmp_path, written):
    photos = make_folder(tmp_path / 'photos')
    call = photos, 'resnet8', 'resnet8'
    written(*call, out=tmp_path / 'out')
    (tmp_path / 'out/work_dirs/teacher').mkdir(parents=True)
    (tmp_path / 'out/work_dirs/teacher/epoch_1.pth').touch()
    written(*call, out=tmp_path / 'out', skip_bad_images=True)
    assert 'skip_bad_images=True' in (tmp_path / 'out/configs/_base_/data.py').read_text()
    with pytest.raises(ConfigError, match='recipe.py'):
        distill(*call, out=tmp_path / 'out', epochs=2)

"""Files of others: nothing in a checkpoint runs, and no image is decoded that is too large."""

import functools
import os
import pickle
import re
import struct
import threading
import zlib
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from PIL import Image
from torch import nn

from hsakd.datasets import LoadImage
from hsakd.registry import MODELS
from hsakd.utils.checkpoint import checkpoint_damage, read_checkpoint, trust_checkpoints
from hsakd.utils.errors import CheckpointError, DataError
from tests.conftest import ROOT, run_tool, write_image_folder

PLAIN = 'configs/baseline/wrn-10-1_1xb64-80e_digits.py'
STUDENT = 'configs/hsakd/hsakd-offline_wrn-16-2_wrn-10-1_1xb64-80e_digits.py'
TEACHER = 'configs/hsakd/hsakd-teacher_wrn-16-2_1xb64-80e_digits.py'
DETECTOR = 'configs/detection/bccd/faster-rcnn_resnet18-fpn_1xb4-6e_bccd.py'


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple:
        return os.makedirs, (self.folder, 0o777, True)


@pytest.fixture(scope='module')
def plain_model():
    return MODELS.build(Config.fromfile(ROOT / PLAIN).model)


@pytest.fixture
def marker(tmp_path):
    return tmp_path / 'it-ran'


@pytest.fixture
def evil(tmp_path, marker, plain_model):
    """A checkpoint of a network, with an attack beside its weights; in a work dir."""
    path = tmp_path / 'work' / 'epoch_1.pth'
    path.parent.mkdir()
    (path.parent / 'last_checkpoint').write_text(str(path))
    config = Config.fromfile(ROOT / PLAIN).pretty_text
    content = dict(
        meta=dict(cfg=config, epoch=1, iter=1),
        state_dict=plain_model.state_dict(),
        optimizer=torch.optim.SGD(plain_model.parameters(), 0.1).state_dict(),
        param_schedulers=[{}],
        message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={}),
        attack=Attack(marker),
    )
    torch.save(content, path)
    return path


def commands(evil: Path) -> dict[str, list]:
    """Every way in, by what names the file in messages."""
    folder = evil.parent
    train = ['tools/train.py', PLAIN, '--work-dir', folder]
    short = 'train_cfg.max_epochs=1'
    fresh = ['tools/train.py', PLAIN, '--work-dir', folder / 'run']
    initial = [f'model.backbone.init_cfg.{o}' for o in ('type=Pretrained', f'checkpoint={evil}')]
    return {
        'model.teacher_ckpt': [
            *('tools/train.py', STUDENT, '--work-dir', folder),
            *('--cfg-options', f'model.teacher_ckpt={evil}'),
        ],
        'model.backbone_ckpt': [
            *('tools/train.py', TEACHER, '--work-dir', folder),
            *('--cfg-options', 'model.frozen=True', f'model.backbone_ckpt={evil}'),
        ],
        'pretrained_backbone': [
            *('tools/train.py', DETECTOR, '--work-dir', folder),
            *('--cfg-options', f'pretrained_backbone={evil}'),
        ],
        'load_from': [*fresh, '--cfg-options', f'load_from={evil}', short],
        '--resume': [*train, '--resume', evil, '--cfg-options', short],
        'resume': [*train, '--resume', '--cfg-options', short],
        'init_cfg': [*fresh, '--cfg-options', *initial, short],
        'checkpoint': ['tools/test.py', PLAIN, evil, '--work-dir', folder],
        '--model': ['tools/predict.py', folder / 'images', '--model', evil, '--out', folder / 'o'],
        'publish': ['tools/model_converters/publish_student.py', evil, folder / 'published'],
        'SRC': ['tools/model_converters/convert_official.py', evil, folder / 'converted.pth'],
        'plot': [
            *('tools/analysis_tools/plot_joint_distribution.py', STUDENT, evil, '--indices', 0),
            *('--out', folder / 'plot.png', '--cfg-options', f'model.teacher_ckpt={evil}'),
        ],
        '--init evil': [
            *('tools/compare.py', DETECTOR, '--init', f'evil={evil}'),
            *('--work-dirs', folder / 'comparison'),
        ],
    }


WAYS = [*commands(Path('x/y'))]


@pytest.mark.parametrize('way', WAYS)
def test_nothing_in_it_runs(way, evil, marker, in_process):
    write_image_folder(evil.parent / 'images', per_class=1)
    status, messages = in_process(*commands(evil)[way])
    assert status == 1
    last = messages.strip().splitlines()[-1]
    assert re.match(r"error: .*='.*epoch_1.pth': refused, .*makedirs.* --trust-checkpoint", last)
    assert 'Traceback' not in messages
    assert messages.count('refused') == 1
    assert not marker.exists()


@pytest.mark.parametrize('way', [way for way in WAYS if not way.startswith('--init')])
def test_trusted_it_is_read(way, evil, marker, in_process):
    """What comes after differs: the file fits some of them."""
    write_image_folder(evil.parent / 'images', per_class=1)
    tool, *arguments = commands(evil)[way]
    status, messages = in_process(tool, '--trust-checkpoint', *arguments)
    assert 'refused' not in messages
    assert marker.exists()
    if way in ('load_from', 'init_cfg', 'checkpoint', '--model', 'publish'):
        assert status == 0, messages
    # Trust ends with the tool.
    with pytest.raises(CheckpointError, match='refused'):
        read_checkpoint(evil, 'checkpoint')


def test_the_trusted_file_is_named(evil, marker):
    trusted = run_tool(
        'tools/test.py', PLAIN, evil, '--work-dir', evil.parent, '--trust-checkpoint'
    )
    assert trusted.returncode == 0, trusted.stderr
    said = trusted.stdout + trusted.stderr
    assert re.search(r"WARNING - checkpoint='.*epoch_1.pth': trusted, and the code in it", said)
    assert marker.exists()


@pytest.fixture
def address(evil, monkeypatch):
    """Of a server with the folder of the file."""
    monkeypatch.setenv('TORCH_HOME', str(evil.parent / 'torch'))
    monkeypatch.setenv('no_proxy', '*')
    handler = functools.partial(SimpleHTTPRequestHandler, directory=evil.parent)
    handler.log_message = lambda *args: None
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


def test_downloads_are_read_as_files_are(evil, marker, address):
    with pytest.raises(CheckpointError, match='checkpoints.*epoch_1.pth.*refused'):
        load_checkpoint(nn.Linear(1, 1), f'{address}/epoch_1.pth')
    assert not marker.exists()
    weights = nn.Linear(1, 1)
    torch.save(weights.state_dict(), evil.parent / 'good.pth')
    found = nn.Linear(1, 1)
    load_checkpoint(found, f'{address}/good.pth')
    assert torch.equal(found.weight, weights.weight)
    with pytest.raises(CheckpointError, match='none.pth.*404'):
        load_checkpoint(found, f'{address}/none.pth')


@pytest.mark.parametrize('scheme', ['torchvision', 'open-mmlab', 'mmcls'])
def test_names_lead_to_the_same_loader(scheme, evil, marker, address, monkeypatch):
    lists = dict.fromkeys(('torchvision', 'external', 'mmcls'), {'net': f'{address}/epoch_1.pth'})
    for name, known in lists.items():
        monkeypatch.setattr(f'mmengine.runner.checkpoint.get_{name}_models', lambda k=known: k)
    with pytest.raises(CheckpointError, match='refused'):
        load_checkpoint(nn.Linear(1, 1), f'{scheme}://net')
    assert not marker.exists()
    with pytest.raises(CheckpointError, match='://net.*://other'):
        load_checkpoint(nn.Linear(1, 1), f'{scheme}://other')


@pytest.mark.parametrize('scheme', ['s3', 'pavi', 'cluster:s3', 'petrel'])
def test_other_storages_are_refused(scheme):
    with pytest.raises(CheckpointError, match='://bucket/file.pth'):
        load_checkpoint(nn.Linear(1, 1), f'{scheme}://bucket/file.pth')


@pytest.mark.parametrize('form', ['old', 'plain pickle'])
def test_older_forms(form, evil, marker):
    if form == 'old':
        torch.save({'x': Attack(marker)}, evil, _use_new_zipfile_serialization=False)
    else:
        evil.write_bytes(pickle.dumps(Attack(marker), protocol=2))
    with pytest.raises(CheckpointError, match='refused, .*makedirs'):
        read_checkpoint(evil, 'checkpoint')
    assert not marker.exists()


def test_what_cannot_be_unpickled_is_named(evil):
    class Fails:
        def __reduce__(self):
            return int, ('no number',)

    torch.save({'x': Fails()}, evil)
    with trust_checkpoints(), pytest.raises(CheckpointError, match='epoch_1.pth.*ValueError'):
        read_checkpoint(evil, 'checkpoint')


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """The bytes of a checkpoint, and what is in it."""
    path = tmp_path_factory.mktemp('whole') / 'epoch_1.pth'
    content = dict(meta=dict(epoch=3), state_dict=dict(w=torch.arange(50.0), b=torch.ones(3)))
    torch.save(content, path)
    return path.read_bytes(), content


def test_a_flipped_bit_is_found_or_does_no_harm(whole, tmp_path):
    data, content = whole
    path, found = tmp_path / 'epoch_1.pth', 0
    for position in range(0, len(data), 3):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        if checkpoint_damage(path):
            found += 1
        else:
            torch.testing.assert_close(read_checkpoint(path, 'x'), content, rtol=0, atol=0)
    assert found > 0.5 * len(data) / 3


def test_damage_is_named(whole, tmp_path):
    data, _ = whole
    path = tmp_path / 'epoch_1.pth'
    flipped = bytearray(data)
    flipped[data.index(struct.pack('<f', 7.0))] ^= 1
    for damaged, words in (
        (bytes(flipped), 'the checksum of its record .*data/0 does not match'),
        (data[:-100], 'truncated perhaps'),
        (data[: len(data) // 2], 'truncated perhaps'),
        (b'', 'damaged: it starts like no file of torch.save'),
        (bytes(len(data)), 'damaged: it starts like no file of torch.save'),
    ):
        path.write_bytes(damaged)
        assert re.search(words, checkpoint_damage(path))
        with pytest.raises(CheckpointError, match=f'checkpoint=.*epoch_1.pth.*{words}'):
            read_checkpoint(path, 'checkpoint')
    assert checkpoint_damage(tmp_path / 'none.pth') == 'no such file'
    path.write_bytes(data)
    assert checkpoint_damage(path) == ''
    torch.save(dict(epoch=1), path, _use_new_zipfile_serialization=False)
    assert checkpoint_damage(path) == '' and read_checkpoint(path, 'x') == dict(epoch=1)


def write_bomb(path: Path, width: int, height: int) -> None:
    """A PNG whose header says width x height, of a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        )

    header = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    data = chunk(b'IDAT', zlib.compress(b'\0' * 100)) + chunk(b'IEND', b'')
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + header + data)


@pytest.mark.parametrize('width, height', [(10_000, 9_000), (50_000, 50_000)])
def test_images_with_too_many_pixels_are_not_decoded(width, height, tmp_path):
    write_bomb(tmp_path / 'bomb.png', width, height)
    with pytest.raises(DataError, match=f'bomb.png: .*89,478,485.*max_pixels.*{width * height:,}'):
        LoadImage().transform(dict(img_path=str(tmp_path / 'bomb.png')))


def test_predict_names_and_skips_such_images(evil, in_process):
    folder = write_image_folder(evil.parent / 'images', per_class=1)
    write_bomb(folder / 'cat' / 'bomb.png', 10_000, 10_000)
    with trust_checkpoints():
        content = read_checkpoint(evil, 'x')
    del content['attack']
    torch.save(content, evil)
    command = ['tools/predict.py', folder, '--model', evil, '--out', evil.parent / 'out']
    status, messages = in_process(*command)
    assert status == 1 and re.search('error: .*bomb.png: .*100,000,000', messages)
    status, messages = in_process(*command, '--skip-bad-images')
    assert status == 0 and 'bomb.png' in messages


def test_the_limit_of_pixels_can_be_set(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    Image.new('RGB', (100, 100)).save(tmp_path / 'image.png')
    results = dict(img_path=str(tmp_path / 'image.png'))
    with pytest.raises(DataError, match='image.png: .*9,999.*10,000'):
        LoadImage(max_pixels=9_999).transform(dict(results))
    assert LoadImage(max_pixels=10_000).transform(results)['img'].shape == (100, 100, 3)


def test_a_detector_decodes_no_such_image_either(tmp_path):
    from hsakd.datasets.detection import VOCDataset
    from tests.detection_files import CLASSES, write_voc

    write_voc(tmp_path, dict(train=2))
    options = dict(
        data_root=f'{tmp_path}/',
        ann_file='ImageSets/Main/train.txt',
        data_prefix=dict(sub_data_root=''),
        metainfo=dict(classes=CLASSES),
        pipeline=[dict(type='mmdet.LoadImageFromFile')],
    )
    dataset = VOCDataset(**options)
    assert 'img' in dataset[0]
    path = Path(dataset.get_data_info(0)['img_path'])
    write_bomb(path, 10_000, 10_000)
    with pytest.raises(DataError, match=f'{path.name}: .*100,000,000'):
        dataset[0]
    with Image.open(dataset.get_data_info(1)['img_path']) as image:
        pixels = image.width * image.height
    small = VOCDataset(**options, max_pixels=pixels - 1)
    with pytest.raises(DataError, match=f'{pixels - 1:,} .*{pixels:,}'):
        small[1]

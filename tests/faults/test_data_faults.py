"""What is wrong with data, loaders and logs ends in one line, in time, and with status 1."""

import os
import pickle
import signal
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger

from hsakd.datasets import CIFAR100
from hsakd.engine.faults import described
from hsakd.utils.errors import DataError, UserError
from tests.conftest import ROOT, write_image_folder
from tests.datasets.test_cifar import write_cifar100
from tests.detection_files import write_voc
from tests.tools.test_detection import VOC, write_config

from .conftest import assert_same_training, last

CLASSES = ('cat', 'dog')
LOADERS = [('train_dataloader', ()), ('val_dataloader', ('--no-persistent-workers',))]
CONFIG = """
_base_ = ['ROOT/configs/baseline/resnet20_1xb64-240e_images32.py']
custom_imports = dict(imports=['tests.faults.broken_transforms'])
model = dict(backbone=dict(depth=8), head=dict(num_classes=2))
train_cfg = dict(max_epochs=2, val_interval=1)
train_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(data_root='DATA/train'))
val_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(data_root='DATA/test'))
val_evaluator = [dict(type='mmpretrain.Accuracy', topk=(1,))]
"""
MISBEHAVES = """
LOADER['dataset']['pipeline'] = [
    dict(type='LoadImage'),
    dict(type='Misbehaves', at='AT', what='WHAT'),
    dict(type='mmpretrain.PackInputs'),
]
LOADER.update(num_workers=2)
"""


@pytest.fixture
def data(tmp_path):
    """Images in folders: 16 to train on, 8 to validate with."""
    write_image_folder(tmp_path / 'data/train', CLASSES, per_class=8)
    write_image_folder(tmp_path / 'data/test', CLASSES, per_class=4)
    return tmp_path / 'data'


def start(tools, data, name='work', *options, extra='', args=(), work_dir=None, **env):
    config = data / f'{name}.py'
    config.write_text(CONFIG.replace('ROOT', str(ROOT)).replace('DATA', str(data)) + extra)
    options = ('--cfg-options', *options) if options else ()
    arguments = ('--work-dir', work_dir or data / name, *args, *options)
    return tools.start('tools/train.py', config, *arguments, log=data / f'{name}.txt', **env)


def error_of(process, seconds=60):
    """The one line by which a tool ends with status 1."""
    status = process.wait(seconds)
    if status is None:
        process.kill()
    output = process.output
    assert status == 1, output
    assert 'Traceback' not in output
    (line,) = [line for line in output.splitlines() if line.startswith('error: ')]
    assert output.endswith(line + '\n')
    return line.removeprefix('error: ')


def truncate(path):
    path.write_bytes(path.read_bytes()[:200])


def spoil(folder):
    """Make two images unreadable."""
    truncate(folder / 'cat/3.png')
    (folder / 'dog/1.png').write_bytes(b'')
    return ['cat/3.png', 'dog/1.png']


@pytest.mark.parametrize('content, workers', [(b'', 2), (b'no image', 0), (None, 2)])
def test_unreadable_image_stops_training(content, workers, tools, data):
    path = data / 'train/dog/1.png'
    truncate(path) if content is None else path.write_bytes(content)
    error = error_of(start(tools, data, 'work', f'train_dataloader.num_workers={workers}'))
    assert error.startswith(f'{path}: ')
    assert error.endswith('--skip-bad-images, or --cfg-options max_bad_images=N')


def test_unreadable_images_are_replaced_and_counted(tools, data):
    bad = spoil(data / 'train')
    for workers in (0, 2):
        options = (f'train_dataloader.num_workers={workers}', 'max_bad_images=2')
        process = start(tools, data, f'work{workers}', *options)
        assert process.wait() == 0, process.output
        warnings = [line for line in process.output.splitlines() if 'bad image' in line]
        assert len(warnings) == 2, 'one for each image, in two epochs'
        assert all(sum(path in line for line in warnings) == 1 for path in bad)
    assert_same_training(last(data / 'work0'), last(data / 'work2'))


def test_too_many_unreadable_images(tools, data):
    spoil(data / 'train')
    options = ('train_dataloader.num_workers=2', 'max_bad_images=1')
    process = start(tools, data, 'work', *options)
    error = error_of(process)
    assert '--skip-bad-images' in error
    assert error.endswith('it is bad image 2 of 16 in process 0, and max_bad_images=1')
    assert process.output.count('bad image 1, up to max_bad_images=1') == 1


def test_no_readable_image(tools, data):
    """There is nothing to replace them by."""
    for path in (data / 'train').glob('*/*.png'):
        path.write_bytes(b'')
    error = error_of(start(tools, data, 'work', 'max_bad_images=100'))
    assert error.endswith('it is bad image 16 of 16 in process 0, and max_bad_images=100')


@pytest.mark.parametrize('value', [-1, 'many'])
def test_limit_that_is_no_number(value, tools, data):
    error = error_of(start(tools, data, 'work', f'max_bad_images={value}'))
    assert error.startswith('max_bad_images: ') and repr(value) in error


@pytest.mark.parametrize('workers', [0, 2])
def test_unreadable_image_stops_validation(workers, tools, data):
    truncate(data / 'test/dog/1.png')
    options = (f'val_dataloader.num_workers={workers}', 'max_bad_images=2')
    error = error_of(start(tools, data, 'work', *options))
    assert error.startswith(f'{data}/test/dog/1.png: ')
    assert (data / 'work/epoch_1.pth').is_file()


def test_unreadable_image_of_a_detector(detection_tools, tmp_path):
    root = write_voc(tmp_path / 'data', dict(train=12, test=4))
    type_ = f"type='hsakd.VOCDataset', data_root='{root}/', metainfo=dict(classes=CLASSES)"
    type_ = type_.replace('CLASSES', "('disc', 'square')")
    splits = (f"ann_file='ImageSets/Main/{split}.txt'" for split in ('train', 'test'))
    prefix = ", data_prefix=dict(sub_data_root='')"
    config = write_config(tmp_path, VOC, type_ + prefix, *splits)
    bad = root / 'JPEGImages/000003.jpg'
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size * 2 // 3])  # Pillow reads its header
    arguments = ('tools/train.py', config, '--work-dir', tmp_path / 'work')
    options = ('--cfg-options', 'train_dataloader.num_workers=2', 'train_cfg.max_epochs=1')
    log = tmp_path / 'stops.txt'
    assert str(bad) in error_of(detection_tools.start(*arguments, *options, log=log))
    options += ('max_bad_images=1',)  # of the images, each of which is there four times
    process = detection_tools.run(*arguments, *options, log=tmp_path / 'goes_on.txt')
    assert process.output.count('bad image 1, up to max_bad_images=1') == 1


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('label', [2, -1])
def test_label_out_of_range(label, workers, tools, data):
    """Of a list of mmpretrain's kind, whose labels nothing else looks at."""
    lines = [f'{name}/{i}.png {label_}' for label_, name in enumerate(CLASSES) for i in range(8)]
    lines[9] = f'dog/1.png {label}'
    (data / 'list.txt').write_text('\n'.join(lines))
    options = (
        'train_dataloader.dataset.type=mmpretrain.CustomDataset',
        f'train_dataloader.dataset.ann_file={data}/list.txt',
        'train_dataloader.dataset.metainfo.classes=[cat,dog]',
        f'train_dataloader.num_workers={workers}',
    )
    error = error_of(start(tools, data, 'work', *options))
    assert error.startswith(f'{data}/train/dog/1.png: ')
    assert '0..1' in error and f'[{label}]' in error


@pytest.mark.parametrize('label', [100, -1, 'cat'])
@pytest.mark.parametrize('split', ['train', 'test'])
def test_label_out_of_range_in_cifar(label, split, tmp_path):
    path = write_cifar100(tmp_path) / split
    content = pickle.loads(path.read_bytes())
    content['fine_labels'][3] = label
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=rf'/{split}, image 3: .*0\.\.99.*{label!r}$'):
        CIFAR100(data_root=str(tmp_path), split=split, pipeline=[])


def test_archive_that_is_cut(tools, tmp_path):
    folder = write_cifar100(tmp_path / 'whole', number=50)
    archive = tmp_path / 'cifar-100-python.tar.gz'
    with tarfile.open(archive, 'w:gz') as tar:
        tar.add(folder, arcname='cifar-100-python')
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    config = 'configs/baseline/resnet8x4_1xb64-240e_cifar100.py'
    options = ('--cfg-options', f'train_dataloader.dataset.data_root={tmp_path}')
    arguments = ('--work-dir', tmp_path / 'work', *options)
    process = tools.start('tools/train.py', config, *arguments, log=tmp_path / 'log.txt')
    assert error_of(process).startswith(f'{archive}: ')


def misbehaves(loader, what, at='dog/1.png'):
    return MISBEHAVES.replace('LOADER', loader).replace('WHAT', what).replace('AT', at)


def test_a_second_ctrl_c_stops_at_once(tools, data):
    """The first waits for the iteration, here of a loader that hangs."""
    process = start(tools, data, extra=misbehaves('train_dataloader', 'hang', at='.png'))
    while not (data / 'work/run.json').exists():
        assert process.wait(0.01) is None, process.output
    process.kill(signal.SIGINT)
    assert process.wait(1) is None, process.output
    assert 'Ctrl-C again stops at once' in process.output
    process.kill(signal.SIGINT)
    assert process.wait(30) == 130, process.output
    assert 'Traceback' not in process.output
    assert_gone(process.pid)


@pytest.mark.parametrize('loader, args', LOADERS)
def test_killed_worker(loader, args, tools, data):
    begin = time.monotonic()
    process = start(tools, data, extra=misbehaves(loader, 'die'), args=args)
    error = error_of(process)
    assert error.startswith(f'{loader}: ') and 'by the kernel' in error
    assert f'a smaller {loader}.num_workers' in error
    assert time.monotonic() - begin < 20, 'it takes two seconds on an idle machine'
    assert_gone(process.pid)


def test_worker_of_one_of_two_processes_is_killed(tools, data):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        address = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free.getsockname()[1]))
    processes = [
        start(
            tools, data, f'rank{rank}', extra=extra,
            args=('--launcher', 'pytorch'),
            RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', **address,
        )
        for rank, extra in enumerate(['', misbehaves('train_dataloader', 'die', at='.png')])
    ]  # fmt: skip
    errors = [error_of(process, 60) for process in processes]
    assert errors[1].startswith('train_dataloader: ') and 'by the kernel' in errors[1]
    assert errors[0] == 'another process of this training ended; its own message tells why'


@pytest.mark.parametrize('loader, args', LOADERS)
def test_stuck_loader(loader, args, tools, data):
    begin = time.monotonic()
    process = start(
        tools, data, 'work', f'{loader}.timeout=2', extra=misbehaves(loader, 'hang'), args=args
    )
    error = error_of(process)
    assert error.startswith(f'{loader}: ') and ' 2 s' in error
    assert f'a larger {loader}.timeout' in error
    assert time.monotonic() - begin < 20, 'it takes four seconds on an idle machine'
    assert_gone(process.pid)


def test_empty_class_folder(tools, data):
    """A class without images is a warning: validation data may lack some."""
    for split in ('train', 'test'):
        (data / split / 'emu').mkdir()
    process = start(tools, data, 'work', 'model.head.num_classes=3', 'train_cfg.max_epochs=1')
    assert process.wait() == 0, process.output
    assert 'no image of emu' in process.output


@pytest.mark.slow
def test_stuck_process_ends(data):
    """A process of its own, which waits for its children when it ends."""
    config = data / 'config.py'
    extra = misbehaves('train_dataloader', 'hang')
    config.write_text(CONFIG.replace('ROOT', str(ROOT)).replace('DATA', str(data)) + extra)
    command = [sys.executable, ROOT / 'tools/train.py', config, '--work-dir', data / 'work']
    with open(data / 'log.txt', 'w') as log:
        process = subprocess.Popen(
            [*command, '--cfg-options', 'train_dataloader.timeout=2'],
            stdout=log, stderr=log, start_new_session=True, cwd=ROOT,
        )  # fmt: skip
        assert process.wait(60) == 1
    assert 'train_dataloader' in (data / 'log.txt').read_text()
    assert_gone(process.pid)


def assert_gone(group):
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


def test_default_timeout_of_loaders(tools, data):
    process = start(tools, data, 'work', 'train_dataloader.num_workers=1', 'train_cfg.max_epochs=1')
    assert process.wait() == 0, process.output
    config = Config.fromfile(data / 'work/work.py')
    assert config.train_dataloader.timeout == 600
    assert 'timeout' not in config.val_dataloader, 'torch refuses it without workers'


@pytest.mark.parametrize('small_disk', ['96k'], indirect=True)
def test_disk_is_full_of_logs(small_disk, tools, data):
    extra = """
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(interval=10_000, save_best=None, save_last=False)
)
train_cfg = dict(max_epochs=10_000, val_interval=10_000)
"""
    process = start(tools, data, extra=extra, work_dir=small_disk / 'work')
    error = error_of(process)
    assert error.startswith(f'a log in {small_disk}/work/')
    assert 'cannot be written: No space left on device; free some space' in error


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='no /dev/full on this system')
def test_log_that_cannot_be_written(capfd, monkeypatch):
    monkeypatch.setattr(MMLogger, '_instance_dict', MMLogger._instance_dict.copy())
    logger = MMLogger.get_instance('full', logger_name='full', log_file='/dev/full')
    with pytest.raises(UserError, match='^a log in /dev cannot be written: No space left'):
        with described('train_dataloader'):
            logger.info('a line')
    assert 'Logging error' not in capfd.readouterr().err


@pytest.mark.parametrize('small_disk', ['96k'], indirect=True)
def test_tensorboard_on_a_full_disk(small_disk, capfd):
    from torch.utils.tensorboard import SummaryWriter

    with pytest.raises(UserError, match='cannot be written: No space left'):
        with described('train_dataloader'):
            writer = SummaryWriter(str(small_disk), flush_secs=0)
            for step in range(100_000):
                writer.add_scalar('loss', 1.0, step)
    assert 'Traceback' not in capfd.readouterr().err


def test_other_errors_stay_what_they_are(tools, data):
    """A mistake in a transform needs its traceback."""
    process = start(tools, data, extra=misbehaves('train_dataloader', 'stop'))
    assert process.wait() == 1
    assert 'Traceback' in process.output and 'RuntimeError: no such luck' in process.output

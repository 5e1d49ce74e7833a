"""tools/train.py and tools/test.py as a user runs them."""

import json
import re

import pytest
import torch
from mmengine.config import Config

from hsakd.registry import MODELS
from tests.conftest import ROOT, run_python, run_tool, write_image_folder

TEACHER = 'configs/hsakd/hsakd-teacher_wrn-16-2_1xb64-80e_digits.py'
STUDENT = 'configs/hsakd/hsakd-offline_wrn-16-2_wrn-10-1_1xb64-80e_digits.py'
PLAIN = 'configs/baseline/wrn-10-1_1xb64-80e_digits.py'
PLAIN_PATH = ROOT / PLAIN
ONLINE = 'configs/hsakd/hsakd-online_wrn-10-1_1xb64-80e_digits.py'
SHORT = ('train_cfg.max_epochs=2', 'train_cfg.val_interval=1')


def train(config, work_dir, *options, args=(), run=run_tool):
    result = run(
        'tools/train.py', config, '--work-dir', work_dir, *args, '--cfg-options', *SHORT, *options
    )
    assert result.returncode == 0, result.stderr
    return result


def scalars(work_dir):
    (path,) = sorted(work_dir.glob('*/vis_data/scalars.json'))[-1:]
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('teacher')
    return work_dir, train(TEACHER, work_dir, run=run_python)


def test_teacher(teacher):
    work_dir, result = teacher
    assert (work_dir / 'epoch_2.pth').is_file()
    records = scalars(work_dir)
    train_losses = [r['loss'] for r in records if 'loss' in r]
    assert train_losses[-1] < train_losses[0]
    validation = records[-1]
    for name in ('accuracy/top1', 'accuracy/top5', 'branch_1/class_top1', 'branch_3/joint_top1'):
        assert 0 <= validation[name] <= 100
    assert list(work_dir.glob('*/vis_data/events.out.tfevents.*')), 'no TensorBoard file'
    assert 'is not compiled' not in result.stdout + result.stderr
    assert 'Config:' not in result.stdout and 'System environment' not in result.stdout
    log = next(work_dir.glob('*/*.log')).read_text()
    assert 'Config:' in log and 'System environment' in log


def test_student_resume_and_test(teacher, tmp_path):
    checkpoint = teacher[0] / 'epoch_2.pth'
    train(STUDENT, tmp_path, f'model.teacher_ckpt={checkpoint}')
    saved = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)
    assert all(key.startswith('student.') for key in saved['state_dict'])
    assert {'loss_cls', 'loss_kd_logits', 'loss_kd_aux_2'} <= set(scalars(tmp_path)[0])
    first = scalars(tmp_path)[-1]['accuracy/top1']

    metrics = tmp_path / 'metrics.json'
    result = run_tool(
        'tools/test.py', STUDENT, tmp_path / 'epoch_2.pth', '--work-dir', tmp_path / 'test',
        '--out', metrics, '--out-item', 'metrics',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert json.loads(metrics.read_text())['accuracy/top1'] == pytest.approx(first)

    result = run_tool(
        'tools/train.py', STUDENT, '--work-dir', tmp_path, '--resume', '--cfg-options',
        'train_cfg.max_epochs=3', 'train_cfg.val_interval=1', f'model.teacher_ckpt={checkpoint}',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (tmp_path / 'epoch_3.pth').is_file()
    assert [r['epoch'] for r in scalars(tmp_path) if 'loss' in r] == [3]


def test_of_one_seed_a_network_starts_alike_in_all_methods(teacher, tmp_path):
    def started(name, config, seed, *options):
        still = ('train_cfg.max_epochs=1', 'optim_wrapper.optimizer.lr=0.0')
        seed = f'randomness.seed={seed}'
        train(config, tmp_path / name, *still, seed, *options, args=['--no-validate'])
        return torch.load(tmp_path / name / 'epoch_1.pth', weights_only=False)['state_dict']

    plain, other = started('plain', PLAIN, 5), started('other', PLAIN, 6)
    checkpoint = f'model.teacher_ckpt={teacher[0] / "epoch_2.pth"}'
    offline = started('offline', STUDENT, 5, checkpoint)
    online = started('online', ONLINE, 5)
    weights = [key for key in plain if re.search(r'conv\d.weight|head.*weight', key)]
    assert len(weights) == 7
    for key in weights:
        assert torch.equal(plain[key], offline[f'student.{key}'])
        assert torch.equal(plain[key], online[f'networks.0.{key}'])
        assert not torch.equal(plain[key], online[f'networks.1.{key}'])
        assert not torch.equal(plain[key], other[key])


@pytest.mark.slow
def test_frozen_teacher_from_a_baseline(tmp_path):
    plain = dict(
        backbone=dict(type='WideResNet', depth=16, widen_factor=2),
        head=dict(num_classes=10, in_channels=128),
    )
    base = Config.fromfile(ROOT / TEACHER)
    base.model = dict(type='BranchedClassifier', neck=base.model.neck, **plain)
    base.model.head = dict(base.model.head, type='mmpretrain.LinearClsHead')
    base.model.head.loss = dict(type='mmpretrain.CrossEntropyLoss')
    base.dump(tmp_path / 'plain.py')
    train(tmp_path / 'plain.py', tmp_path / 'plain')
    checkpoint = tmp_path / 'plain' / 'epoch_2.pth'
    train(TEACHER, tmp_path / 'frozen', 'model.frozen=True', f'model.backbone_ckpt={checkpoint}')
    before = torch.load(checkpoint, weights_only=False)['state_dict']
    after = torch.load(tmp_path / 'frozen' / 'epoch_2.pth', weights_only=False)['state_dict']
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    losses = [r['loss_aux_0'] for r in scalars(tmp_path / 'frozen') if 'loss' in r]
    assert losses[-1] < losses[0]


def test_image_folder_with_a_bad_image(tmp_path):
    train_dir = write_image_folder(tmp_path / 'train', per_class=8)
    test_dir = write_image_folder(tmp_path / 'test')
    (train_dir / 'cat' / '3.png').write_bytes(b'broken')
    config = 'configs/baseline/resnet8_1xb32-300i_images32.py'
    options = (
        '--cfg-options', 'model.head.num_classes=2', 'train_cfg.max_iters=4',
        'train_cfg.val_interval=4', 'train_dataloader.batch_size=4',
        'val_evaluator.0.topk=(1,)', 'train_dataloader.num_workers=1',
        f'train_dataloader.dataset.data_root={train_dir}',
        f'val_dataloader.dataset.data_root={test_dir}',
    )  # fmt: skip
    work_dir = tmp_path / 'work'
    failed = run_tool('tools/train.py', config, '--work-dir', work_dir, *options)
    assert failed.returncode == 1
    assert 'cat/3.png: ' in failed.stderr and 'Traceback' not in failed.stderr
    skipped = run_tool(
        'tools/train.py', config, '--work-dir', work_dir, '--skip-bad-images', *options
    )
    assert skipped.returncode == 0, skipped.stderr
    assert 'skipped 1 of 16 images' in skipped.stdout + skipped.stderr


def test_non_finite_loss_stops_and_spoils_nothing(tmp_path, in_process, monkeypatch):
    work_dir = tmp_path / 'work'
    train(PLAIN, work_dir)
    good = (work_dir / 'epoch_2.pth').read_bytes()
    config = Config.fromfile(ROOT / PLAIN)
    # As on an accelerator, where epochs of four iterations end between two looks.
    config.custom_hooks = [dict(type='NonFiniteLossHook', interval=10)]
    config.dump(tmp_path / 'config.py')
    resume = ('tools/train.py', tmp_path / 'config.py', '--work-dir', work_dir, '--resume')
    options = ('--cfg-options', 'train_cfg.max_epochs=3')
    status, stderr = in_process(*resume, *options, 'data_preprocessor.std=[0,0,0]')
    assert status == 1
    assert 'loss_cls is' in stderr and 'at iteration 9' in stderr and 'Traceback' not in stderr
    assert (work_dir / 'epoch_2.pth').read_bytes() == good
    assert (work_dir / 'last_checkpoint').read_text() == str(work_dir / 'epoch_2.pth')
    assert not (work_dir / 'epoch_3.pth').exists()
    reads, load = [], torch.load
    monkeypatch.setattr(torch, 'load', lambda path, **kw: reads.append(path) or load(path, **kw))
    status, stderr = in_process(*resume, *options)
    assert status == 0, stderr
    assert (work_dir / 'epoch_3.pth').is_file()
    assert reads == [work_dir / 'epoch_2.pth']  # once


def test_no_checkpoint_by_iterations_is_lost_either(tmp_path, in_process):
    config = Config.fromfile(ROOT / PLAIN)
    config.custom_hooks = [dict(type='NonFiniteLossHook', interval=10)]
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=4, val_interval=9)
    config.default_hooks.checkpoint.update(by_epoch=False, interval=2)
    config.param_scheduler.by_epoch = False
    config.dump(tmp_path / 'config.py')
    run = ('tools/train.py', tmp_path / 'config.py', '--work-dir', tmp_path / 'work')
    assert in_process(*run)[0] == 0
    status, stderr = in_process(
        *run, '--resume', '--cfg-options', 'train_cfg.max_iters=6',
        'data_preprocessor.std=[0,0,0]',
    )  # fmt: skip
    assert status == 1 and 'at iteration 5' in stderr
    assert sorted(p.name for p in (tmp_path / 'work').glob('iter_*')) == ['iter_4.pth']


def test_scaled_learning_rate(tmp_path, in_process):
    """Twice the batch size of the config gives twice the rate, and the schedule follows."""
    status, stderr = in_process(
        'tools/train.py', PLAIN_PATH, '--work-dir', tmp_path, '--auto-scale-lr', '--cfg-options',
        'train_dataloader.batch_size=128', 'train_cfg.max_epochs=2', 'train_cfg.val_interval=9',
        'param_scheduler.milestones=[1]', 'auto_scale_lr.base_batch_size=64',
        'optim_wrapper.optimizer.lr=0.01', 'default_hooks.logger.interval=1',
    )  # fmt: skip
    assert status == 0, stderr
    rates = [record['lr'] for record in scalars(tmp_path) if 'lr' in record]
    assert rates == pytest.approx([0.02, 0.02, 0.002, 0.002])


def test_nothing_to_resume_and_loader_options(tmp_path, in_process):
    """The user hears that training starts from scratch, and --cfg-options win over defaults."""
    status, stderr = in_process(
        'tools/train.py', PLAIN_PATH, '--work-dir', tmp_path, '--resume', '--no-pin-memory',
        '--cfg-options', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=9',
        'train_dataloader.num_workers=1', 'train_dataloader.persistent_workers=False',
        'train_dataloader.pin_memory=True',
    )  # fmt: skip
    assert status == 0, stderr
    assert 'training starts from scratch' in next(tmp_path.glob('*/*.log')).read_text()
    (config,) = tmp_path.glob('*.py')
    config = Config.fromfile(config)
    assert config.train_dataloader.persistent_workers is False
    assert (config.train_dataloader.pin_memory, config.val_dataloader.pin_memory) == (True, False)


def saved_network(path, **changes):
    cfg = Config(Config.fromfile(ROOT / STUDENT).model.teacher.to_dict())
    cfg.merge_from_dict(changes)
    torch.save(dict(state_dict=MODELS.build(cfg.to_dict()).state_dict()), path)
    return path


@pytest.fixture(scope='module')
def bad_files(tmp_path_factory):
    """A folder of files with which no training can start."""
    folder = tmp_path_factory.mktemp('bad')
    saved_network(folder / 'classes.pth', **{'head.num_classes': 7})
    saved_network(folder / 'deeper.pth', **{'backbone.depth': 22})
    run = torch.load(folder / 'deeper.pth') | dict(optimizer={}, message_hub={})
    torch.save(run | dict(meta=dict(epoch=1, iter=4)), folder / 'run.pth')
    whole = saved_network(folder / 'whole.pth').read_bytes()
    (folder / 'truncated.pth').write_bytes(whole[: len(whole) // 2])
    (folder / 'text.pth').write_text('not a checkpoint')
    (folder / 'name.py').write_text('model = undefined')
    (folder / 'broken.json').write_text('{"model": ')
    (folder / 'empty.py').touch()
    (folder / 'folder.pkl').mkdir()
    return folder


@pytest.mark.parametrize(
    'args, words',
    [
        ([PLAIN, '--cfg-options', 'nonsense'], '--cfg-options: expected'),
        (['nowhere.py'], "config 'nowhere.py'"),
        ([STUDENT, '--amp'], '--amp: expected'),
        ([PLAIN, 'fast=2'], 'fast: expected True or False, got 2'),
        ([PLAIN, '--fast', 'compile=True'], 'got compile=True'),
        (
            [PLAIN, '--fast', 'optim_wrapper.type=AmpOptimWrapper'],
            "got optim_wrapper.type='AmpOptimWrapper'",
        ),
        ([STUDENT, '--resume', 'gone.pth'], "--resume='gone.pth'"),
        ([PLAIN, '--resume', 'run.pth'], 'weights of the model of the config'),
        ([STUDENT, '--skip-bad-images'], '--skip-bad-images: expected'),
        ([STUDENT, 'model.teacher_ckpt=None'], 'model.teacher_ckpt'),
        ([STUDENT, 'model.teacher_ckpt=gone.pth'], "model.teacher_ckpt='gone.pth'"),
        ([STUDENT, 'model.teacher_ckpt=classes.pth'], 'has 7 classes, the config 10'),
        ([STUDENT, 'model.student.branches.stages=[0]'], 'model.student'),
        ([STUDENT, 'model.student.backbone.wheels=4'], "unexpected keyword argument 'wheels'"),
        ([PLAIN, 'optim_wrapper.optimizer.type=SGDD'], "got 'SGDD'"),
        ([PLAIN, 'optim_wrapper.optimizer.lr=-1'], 'Invalid learning rate'),
        ([PLAIN, 'train_dataloader.dataset.type=Nothing'], 'Nothing is not in the hsakd::dataset'),
        ([PLAIN, '--work-dir', 'truncated.pth'], "--work-dir='truncated.pth'"),
        ([TEACHER, 'model.frozen=True'], 'model.backbone_ckpt'),
        ([PLAIN, 'val_evaluator.0.topk=11'], 'val_evaluator: topk: expected a number up to 10'),
        ([PLAIN, '--resume', 'whole.pth'], 'without meta.epoch, meta.iter, optimizer'),
        ([PLAIN, 'load_from=https://x.org/w.pth'], "got 'https://x.org/w.pth'"),
        (['name.py'], "config 'name.py': NameError: name 'undefined' is not defined"),
        (['broken.json'], "config 'broken.json': JSONDecodeError"),
        ([PLAIN, 'train_dataloader.batch_size=0'], 'train_cfg cannot be used: ValueError'),
        ([PLAIN, 'train_dataloader.batch_size=abc'], 'train_dataloader.batch_size'),
        ([PLAIN, 'train_dataloader.num_workers=-1'], 'num_workers option should be non-negative'),
        ([PLAIN, 'optim_wrapper.optimizer.lr=abc'], 'optim_wrapper.optimizer.lr cannot be used'),
        ([PLAIN, 'randomness.seed=abc'], 'config cannot be used: '),
        ([PLAIN, 'train_cfg.max_epochs=0'], 'train_cfg.max_epochs: expected 1 or more, got 0'),
        ([PLAIN, 'param_scheduler.gamma=abc'], 'param_scheduler.gamma: expected'),
        ([PLAIN, 'default_hooks.checkpoint.interval=abc'], 'interval of CheckpointHook: expected'),
        ([PLAIN, 'param_scheduler.milestones=abc'], 'param_scheduler.milestones: expected'),
        ([PLAIN, 'model.head.in_channels=65'], 'model.head.in_channels: expected 64'),
        ([PLAIN, 'model.head.num_classes=-3'], 'num_classes=-3 must be a positive'),
        ([PLAIN, 'model.backbone.widen_factor=0'], 'model: expected backbone and neck'),
        ([PLAIN, 'data_preprocessor.mean=[1,2]'], 'data_preprocessor.mean: expected'),
        ([PLAIN, 'default_hooks.checkpoint.save_best=foo'], 'Cannot infer the rule for key foo'),
        ([PLAIN, '--launcher', 'slurm'], 'no SLURM_PROCID in the environment'),
        (['configs/baseline/resnet20_1xb64-240e_cifar100.py'], "data_root='data/cifar100'"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_bad_input_ends_in_one_message(args, words, bad_files, tmp_path, monkeypatch, in_process):
    config = str(ROOT / args[0]) if args[0].startswith('configs') else args[0]
    options = [a for a in args[1:] if '=' in a and not a.startswith('--')]
    flags = [a for a in args[1:] if a not in options]
    if options:
        flags += ['--cfg-options', *options]
    monkeypatch.chdir(bad_files)
    status, stderr = in_process('tools/train.py', config, '--work-dir', tmp_path / 'w', *flags)
    assert status == (2 if 'nonsense' in args else 1)
    assert words in stderr, stderr
    assert stderr.count('error: ') == 1 and 'Traceback' not in stderr
    assert not list((tmp_path / 'w').glob('*.pth'))
    if 'optim_wrapper.optimizer.lr=abc' in args:  # for whoever debugs a class
        assert 'Traceback' in next((tmp_path / 'w').glob('*/*.log')).read_text()


@pytest.mark.parametrize(
    'checkpoint, words',
    [
        ('gone.pth', "checkpoint='gone.pth'"),
        ('classes.pth', 'has 7 classes, the config 10'),
        ('text.pth', "checkpoint='text.pth'"),
    ],
)
def test_testing_a_bad_checkpoint(checkpoint, words, bad_files, tmp_path, monkeypatch, in_process):
    monkeypatch.chdir(bad_files)
    command = ('tools/test.py', ROOT / TEACHER, checkpoint, '--work-dir', tmp_path)
    status, stderr = in_process(*command)
    assert status == 1 and words in stderr and 'Traceback' not in stderr


@pytest.mark.parametrize(
    'args, words',
    [
        (['--out', 'x.json'], '--out-item pred, the default'),
        (['--out', 'x.txt', '--out-item', 'metrics'], '--out-item metrics'),
        (['--out', 'folder.pkl'], "--out: expected a file, got 'folder.pkl'"),
        (['--out', 'empty.py/x.pkl'], "/empty.py'"),
        (['--show-dir', 'empty.py'], "/empty.py'"),
        (['--interval', '0'], 'argument --interval'),
    ],
)
def test_unusable_options_of_a_test_are_found_before_it(
    args, words, bad_files, tmp_path, monkeypatch, in_process
):
    monkeypatch.chdir(bad_files)
    command = ('tools/test.py', ROOT / PLAIN, 'whole.pth', '--work-dir', tmp_path)
    status, stderr = in_process(*command, *args)
    assert status in (1, 2) and words in stderr and 'Traceback' not in stderr
    assert not list(tmp_path.rglob('*.log'))  # no runner was built

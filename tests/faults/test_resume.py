"""A resumed run ends with the bits of one that was never interrupted."""

import json
import shutil

import pytest

from tests.conftest import ROOT, write_image_folder
from tests.detection_files import write_voc
from tests.faults.conftest import assert_same_training, last, load
from tests.tools.test_detection import VOC, write_config

TEACHER = 'configs/hsakd/hsakd-teacher_wrn-16-2_1xb64-80e_digits.py'
STUDENT = 'configs/hsakd/hsakd-offline_wrn-16-2_wrn-10-1_1xb64-80e_digits.py'
ONLINE = 'configs/hsakd/hsakd-online_wrn-10-1_1xb64-80e_digits.py'
PLAIN = 'configs/baseline/wrn-10-1_1xb64-80e_digits.py'
IMAGES = 'configs/hsakd/hsakd-teacher_resnet20_1xb32-300i_images32.py'

# Three epochs of four iterations; checkpoints within epochs and at an end.
DIGITS = (
    'train_cfg.max_epochs=3', 'train_cfg.val_interval=2', 'val_dataloader.batch_size=800',
    'default_hooks.checkpoint.by_epoch=False', 'default_hooks.checkpoint.interval=3',
    'default_hooks.checkpoint.max_keep_ckpts=-1',
)  # fmt: skip

EMA = """
_base_ = [{base!r}]
custom_hooks = [*_base_.custom_hooks, dict(type='EMAHook', momentum=0.1)]
"""
# A cosine by iterations with warm-up, Adam, gradients of two batches a step, clipped.
SCHEDULE = """
_base_ = [{base!r}]
optim_wrapper = dict(
    _delete_=True, optimizer=dict(type='AdamW', lr=0.01), accumulative_counts=2,
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=4),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=4, T_max=8),
]
"""


def images(folder):
    """Twenty iterations of augmented images from two workers, over data of six batches."""
    if not folder.exists():
        write_image_folder(folder / 'train', classes=('a', 'b', 'c'), per_class=16)
        write_image_folder(folder / 'test', classes=('a', 'b', 'c'))
    return (
        f'train_dataloader.dataset.data_root={folder}/train',
        f'val_dataloader.dataset.data_root={folder}/test',
        'train_dataloader.batch_size=8', 'train_dataloader.num_workers=2',
        'val_dataloader.num_workers=0', 'val_dataloader.batch_size=4',
        'val_evaluator.0.topk="(1,)"', 'model.backbone.depth=8', 'model.head.num_classes=3',
        'train_cfg.max_iters=20', 'train_cfg.val_interval=5', 'default_hooks.checkpoint.interval=4',
        'default_hooks.checkpoint.max_keep_ckpts=-1',
    )  # fmt: skip


def train(tools, config, work_dir, options, *args, run='run', **env):
    return getattr(tools, run)(
        'tools/train.py', config, '--work-dir', work_dir, *args, '--cfg-options', *options,
        log=work_dir.parent / f'{work_dir.name}.log', **env,
    )  # fmt: skip


def start(*args):
    return train(*args, run='start')


@pytest.fixture(scope='module')
def teacher(tools, tmp_path_factory):
    folder = tmp_path_factory.mktemp('teacher') / 'work'
    train(tools, TEACHER, folder, ('train_cfg.max_epochs=1',))
    return folder / 'epoch_1.pth'


@pytest.mark.parametrize(
    'case, steps',
    [
        ('plain', (3, 6)),
        ('teacher', (3,)),
        ('offline', (3, 6)),
        ('online', (9,)),
        ('ema', (3, 9)),
        ('schedule', (3, 6)),
        ('images', (4, 16)),
        ('images in memory', (4, 16)),
        pytest.param('fast offline', (3, 6), marks=pytest.mark.slow),
    ],
)
def test_from_every_checkpoint(case, steps, tools, teacher, tmp_path):
    """Also one within an epoch, and one whose gradients wait for more."""
    config = dict(plain=PLAIN, teacher=TEACHER, online=ONLINE).get(case, PLAIN)
    options = DIGITS
    if case.endswith('offline'):
        config = STUDENT
        options += (f'model.teacher_ckpt={teacher}', f'fast={case.startswith("fast")}')
    elif case.startswith('images'):
        config, options = IMAGES, images(tmp_path / 'images')
        options += (f'train_dataloader.in_memory={"memory" in case}',)
    elif case in ('ema', 'schedule'):
        text = dict(ema=EMA, schedule=SCHEDULE)[case].format(base=str(ROOT / PLAIN))
        config = tmp_path / 'config.py'
        config.write_text(text)
    train(tools, config, tmp_path / 'whole', options)
    end = last(tmp_path / 'whole')
    for step in steps:
        cut = tmp_path / f'from_{step}'
        cut.mkdir()
        shutil.copy(tmp_path / 'whole' / f'iter_{step}.pth', cut)
        (cut / 'last_checkpoint').write_text(str(cut / f'iter_{step}.pth'))
        train(tools, config, cut, options, '--resume')
        assert_same_training(end, last(cut))
        assert not (cut / f'iter_{step - 1}.pth').exists()


def test_at_ends_of_epochs(tools, tmp_path):
    """The default: a checkpoint an epoch, replaced by the next, and the best one."""
    options = DIGITS[:3]
    train(tools, PLAIN, tmp_path / 'whole', options)
    cut = tmp_path / 'cut'
    process = start(tools, PLAIN, cut, options)
    while not (cut / 'epoch_2.pth').exists() and process.wait(0.01) is None:
        pass
    process.kill()
    train(tools, PLAIN, cut, options, '--resume')
    assert_same_training(tmp_path / 'whole/epoch_3.pth', cut / 'epoch_3.pth')
    files = [sorted(p.name for p in (tmp_path / run).glob('*.pth')) for run in ('whole', 'cut')]
    assert files[0] == files[1] and len(files[0]) == 2


def test_data_do_not_depend_on_workers(tools, tmp_path):
    options = images(tmp_path / 'images')
    ends = []
    for workers in (0, 1, 3):
        more = (*options, f'train_dataloader.num_workers={workers}', 'train_cfg.max_iters=8')
        train(tools, IMAGES, tmp_path / str(workers), more)
        ends.append(last(tmp_path / str(workers)))
    assert_same_training(*ends[:2])
    assert_same_training(*ends[1:])


def test_without_a_seed_in_the_config(tools, tmp_path):
    """The seed that was drawn is that of the checkpoint."""
    options = (*DIGITS, 'randomness.seed=None')
    train(tools, PLAIN, tmp_path / 'whole', options)
    cut = tmp_path / 'cut'
    train(tools, PLAIN, cut, options, '--resume', tmp_path / 'whole/iter_3.pth')
    assert_same_training(last(tmp_path / 'whole'), last(cut))


def test_other_batches_go_on_where_the_epoch_was(tools, tmp_path):
    """Not exactly, but without an error, and with a word."""
    train(tools, PLAIN, tmp_path / 'a', DIGITS)
    options = (*DIGITS, 'train_dataloader.batch_size=32')  # 7 iterations an epoch, not 4
    resumed = train(tools, PLAIN, tmp_path / 'b', options, '--resume', tmp_path / 'a/iter_6.pth')
    assert 'goes on, and not exactly' in resumed.output
    assert load(last(tmp_path / 'b'))['meta']['iter'] == 21


def test_detection(detection_tools, tmp_path):
    """Batches by aspect ratio, flips in a worker, warm-up by iterations."""
    write_voc(tmp_path / 'data', dict(train=12, test=4))
    kind = "type='hsakd.VOCDataset', data_root='DATA', metainfo=dict(classes=('disc', 'square'))"
    split = "ann_file='ImageSets/Main/{}.txt'"
    config = write_config(tmp_path, VOC, kind, split.format('train'), split.format('test'))
    options = (
        'train_dataloader.dataset.times=1', 'train_dataloader.num_workers=1', *DIGITS[3:],
        'default_hooks.checkpoint.interval=2',
    )  # fmt: skip
    train(detection_tools, config, tmp_path / 'whole', options)
    cut = tmp_path / 'cut'
    start = tmp_path / 'whole/iter_2.pth'  # of three in the first of two epochs
    train(detection_tools, config, cut, options, '--resume', start)
    assert last(cut).name == 'iter_6.pth'
    assert_same_training(last(tmp_path / 'whole'), last(cut))


def rates(work_dir, first=1):
    """The learning rate of each iteration, from the logs of all sessions."""
    logs = [log.read_text() for log in sorted(work_dir.glob('*/vis_data/scalars.json'))]
    lines = [json.loads(line) for log in logs for line in log.splitlines()]
    return {line['step']: line['lr'] for line in lines if 'lr' in line and line['step'] >= first}


SHORT = (
    'train_cfg.max_epochs=2', 'train_cfg.val_interval=9', 'val_dataloader.batch_size=800',
    'default_hooks.logger.interval=1', 'param_scheduler.milestones="[1,3]"',
    'param_scheduler.gamma=0.5',
)  # fmt: skip


@pytest.mark.parametrize(
    'changes, named',
    [
        (('optim_wrapper.optimizer.lr=0.01',), 'optimizer.lr=0.01 (was 0.05)'),
        (('param_scheduler.milestones="[2,3]"',), 'milestones=[2, 3] (was [1, 3])'),
        (
            ('param_scheduler.gamma=0.1', 'optim_wrapper.optimizer.lr=0.2'),
            'param_scheduler.gamma=0.1 (was 0.5)',
        ),
    ],
)
def test_other_learning_rates_count_from_there_on(changes, named, tools, tmp_path):
    """As in a training with them from the start."""
    train(tools, PLAIN, tmp_path / 'run', SHORT)
    options = (*SHORT, 'train_cfg.max_epochs=4')
    resumed = train(tools, PLAIN, tmp_path / 'run', (*options, *changes), '--resume')
    assert named in resumed.output and 'count from here on' in resumed.output
    assert 'train_cfg.max_epochs=4 (was 2)' in resumed.output
    train(tools, PLAIN, tmp_path / 'fresh', (*options, *changes))
    assert rates(tmp_path / 'run', 9) == rates(tmp_path / 'fresh', 9)


def test_an_extended_run_keeps_its_schedule(tools, tmp_path):
    train(tools, PLAIN, tmp_path / 'run', SHORT)
    finished = train(tools, PLAIN, tmp_path / 'run', SHORT, '--resume')
    assert 'this training is finished (epochs: 2)' in finished.output
    assert '--resume --cfg-options train_cfg.max_epochs=N' in finished.output
    assert 'other settings' not in finished.output
    longer = (*SHORT, 'train_cfg.max_epochs=4')
    extended = train(tools, PLAIN, tmp_path / 'run', longer, '--resume')
    assert 'train_cfg.max_epochs=4 (was 2)' in extended.output
    train(tools, PLAIN, tmp_path / 'whole', longer)
    assert_same_training(last(tmp_path / 'whole'), last(tmp_path / 'run'))


def test_other_weight_decay_counts_and_the_rest_goes_on(tools, tmp_path):
    train(tools, PLAIN, tmp_path / 'run', SHORT)
    options = (*SHORT, 'train_cfg.max_epochs=3', 'optim_wrapper.optimizer.weight_decay=0.1')
    resumed = train(tools, PLAIN, tmp_path / 'run', options, '--resume')
    assert 'weight_decay=0.1 (was 0.0005)' in resumed.output
    (group,) = load(last(tmp_path / 'run'))['optimizer']['param_groups']
    assert group['weight_decay'] == 0.1
    assert rates(tmp_path / 'run', 9) == dict.fromkeys(range(9, 13), 0.025)


def test_the_state_of_another_optimizer_is_refused(tools, tmp_path):
    train(tools, PLAIN, tmp_path / 'run', SHORT)
    config = tmp_path / 'config.py'
    config.write_text(
        f"_base_ = ['{ROOT / PLAIN}']\n"
        "optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=0.01))\n"
    )
    start = tmp_path / 'run/epoch_2.pth'
    refused = train(tools, config, tmp_path / 'b', SHORT, '--resume', start, run='start')
    assert refused.wait() == 1 and 'Traceback' not in refused.output
    assert 'optim_wrapper.optimizer.type=SGD' in refused.output
    assert f'load_from={start}' in refused.output


BY_VALIDATION = """
_base_ = [{base!r}]
param_scheduler = dict(
    _delete_=True, type='ReduceOnPlateauLR', monitor='accuracy/top1', rule='greater',
    threshold=30, patience=0, factor=0.5,
)
custom_hooks = [dict(type='EarlyStoppingHook', monitor='accuracy/top1', min_delta=30, patience=3)]
default_hooks = dict(checkpoint=dict(max_keep_ckpts=-1))
"""
EVERY_EPOCH = (
    'train_cfg.max_epochs=9', 'train_cfg.val_interval=1', 'val_dataloader.batch_size=800',
    'default_hooks.logger.interval=1',
)  # fmt: skip


def test_validations_count_once(tools, tmp_path):
    """Also for a checkpoint that was saved again after its validation, whose metric was the best.

    Schedules on a plateau and the count of early stopping follow validations.
    """
    config = tmp_path / 'config.py'
    config.write_text(BY_VALIDATION.format(base=str(ROOT / PLAIN)))
    stopped = train(tools, config, tmp_path / 'whole', EVERY_EPOCH)
    end = last(tmp_path / 'whole')
    assert 1 < int(end.stem.removeprefix('epoch_')) < 9
    assert json.loads((tmp_path / 'whole/run.json').read_text())['finished']
    assert len({*rates(tmp_path / 'whole').values()}) > 2
    for checkpoint in (tmp_path / 'whole').glob('epoch_*.pth'):
        if checkpoint == end:
            continue
        cut = tmp_path / checkpoint.stem
        train(tools, config, cut, EVERY_EPOCH, '--resume', checkpoint)
        assert last(cut).name == end.name
        assert_same_training(end, last(cut))
        assert load(end)['early_stopping'] == load(last(cut))['early_stopping']
    stopped = train(tools, config, tmp_path / 'whole', EVERY_EPOCH, '--resume')
    assert last(tmp_path / 'whole') == end, stopped.output
    longer = config.read_text().replace('patience=3', 'patience=5')
    config.write_text(longer)
    resumed = train(tools, config, tmp_path / 'whole', EVERY_EPOCH, '--resume')
    assert 'custom_hooks.0.patience=5 (was 3)' in resumed.output
    assert last(tmp_path / 'whole') != end


def test_averages_are_not_gone_on_from_as_weights(tools, tmp_path):
    """The checkpoint of a run with EMAHook needs one."""
    config = tmp_path / 'config.py'
    config.write_text(EMA.format(base=str(ROOT / PLAIN)))
    train(tools, config, tmp_path / 'run', SHORT)
    start = tmp_path / 'run/epoch_2.pth'
    refused = train(tools, PLAIN, tmp_path / 'b', SHORT, '--resume', start, run='start')
    assert refused.wait() == 1 and 'Traceback' not in refused.output
    assert 'expected EMAHook in custom_hooks, as before' in refused.output

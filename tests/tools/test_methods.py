"""Methods end to end on the digits: train, resume in the middle to the bit, test, publish."""

import pytest

from tests.conftest import ROOT
from tests.faults.conftest import assert_same_training, last, tools  # noqa: F401
from tests.faults.test_resume import SHORT, train

PAIR = f"""
_base_ = ['{ROOT}/configs/_base_/pairs/wrn-16-2_wrn-10-1_digits.py']
model = dict(type='KIND', MORE)
"""
ALONE = f"""
_base_ = ['{ROOT}/configs/baseline/wrn-10-1_1xb64-80e_digits.py']
network = _base_.pop('model')
MADE = dict(network, transforms=dict(type='NoTransform'), branches=dict(BRANCHES))
model = dict(type='KIND', MORE)
"""
PEERS = "type='AuxiliaryBranches', stages="
#: Of 4 iterations or more each; checkpoints within epochs.
THREE_EPOCHS = (
    *SHORT, 'train_cfg.max_epochs=3', 'default_hooks.checkpoint.by_epoch=False',
    'default_hooks.checkpoint.interval=6', 'default_hooks.checkpoint.max_keep_ckpts=9',
)  # fmt: skip


def config_of(folder, kind, more='', alone=False, branches=''):
    text = PAIR
    if alone:
        text = ALONE.replace('MADE', 'branched').replace('BRANCHES', branches or PEERS + '[1]')
        network = 'branched' if branches else 'network'
        more = more or f'student={network}'
        more = more.replace('NETWORK', network)
    path = folder / f'{kind.lower()}.py'
    path.write_text(text.replace('KIND', kind).replace('MORE', more))
    return path


@pytest.fixture(scope='module')
def teacher(tools, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp('teacher')
    config = ROOT / 'configs/baseline/wrn-10-1_1xb64-80e_digits.py'
    network = ('model.backbone.depth=16', 'model.backbone.widen_factor=2')
    options = (*SHORT, *network, 'model.head.in_channels=128')
    train(tools, config, folder / 'work', options)
    return folder / 'work/epoch_2.pth'


def check(tools, config, folder, options):  # noqa: F811
    """Train, resume to the bit, test, publish."""
    options = (*THREE_EPOCHS, *options)
    train(tools, config, folder / 'whole', options)
    start = folder / 'whole/iter_6.pth'
    train(tools, config, folder / 'cut', options, '--resume', start)
    assert_same_training(last(folder / 'whole'), last(folder / 'cut'))
    arguments = (config, last(folder / 'cut'), '--work-dir', folder / 'test', '--cfg-options')
    tested = tools.run('tools/test.py', *arguments, *options, log=folder / 't')
    assert 'accuracy/top1' in tested.output
    publish = 'tools/model_converters/publish_student.py'
    done = tools.run(publish, last(folder / 'cut'), folder / 'out/student', log=folder / 'p')
    assert list((folder / 'out').glob('student-*.pth')), done.output


@pytest.mark.parametrize(
    'kind, more',
    [
        ('KD', ''), ('FitNet', ''), ('AT', ''), ('NST', ''), ('SP', ''), ('CC', ''), ('VID', ''),
        ('RKD', ''), ('PKT', ''), ('CRD', 'negatives=100'), ('DKD', ''), ('ReviewKD', ''),
        ('DIST', ''), ('AB', ''),
    ],
)  # fmt: skip
def test_offline(kind, more, teacher, tools, tmp_path):  # noqa: F811
    """Helper layers and memories are in checkpoints, and no part of what is published."""
    check(tools, config_of(tmp_path, kind, more), tmp_path, [f'model.teacher_ckpt={teacher}'])


@pytest.mark.parametrize('first, second', [('FTParaphraser', 'FT'), ('SSKDHead', 'SSKD')])
def test_two_phases(first, second, teacher, tools, in_process, tmp_path):  # noqa: F811
    """The teacher of the second phase is what the first one left: network and helper layers."""
    head = config_of(tmp_path, first, 'student=NETWORK', alone=True)
    network = ('model.student.backbone.depth=16', 'model.student.backbone.widen_factor=2')
    options = (*network, 'model.student.head.in_channels=128', f'model.student_ckpt={teacher}')
    (tmp_path / 'first').mkdir()
    check(tools, head, tmp_path / 'first', options)
    ready = last(tmp_path / 'first/cut')
    check(tools, config_of(tmp_path, second), tmp_path, [f'model.teacher_ckpt={ready}'])
    options = ('--cfg-options', *SHORT, f'model.teacher_ckpt={teacher}')
    config = tmp_path / f'{second.lower()}.py'
    status, error = in_process('tools/train.py', config, '--work-dir', tmp_path / 'w', *options)
    assert status == 1 and 'a checkpoint of the phase before, with the layers' in error


def test_hints_and_then_labels(teacher, tools, tmp_path):  # noqa: F811
    """AB: the second phase trains by labels from what the first one left."""
    options = (*SHORT, f'model.teacher_ckpt={teacher}')
    train(tools, config_of(tmp_path, 'AB'), tmp_path / 'hints', options)
    weights = 'loss_weights=dict(loss_cls=1.0, loss_kd=0.0)'
    options = (*options, f'load_from={last(tmp_path / "hints")}')
    second = train(tools, config_of(tmp_path, 'KD', weights), tmp_path / 'labels', options)
    assert 'weights loaded from' in second.output


NETWORKS = 'networks=2 * [NETWORK]'


@pytest.mark.parametrize(
    'kind, more, branches',
    [
        ('DML', NETWORKS, ''), ('KDCL', NETWORKS, ''), ('MCL', NETWORKS, ''),
        ('MCLMemory', f'{NETWORKS}, negatives=100', ''),
        ('CLILR', '', "type='TreeBranches'"),
        ('ONE', '', PEERS + '[1, 1, 1]'), ('OKDDip', '', PEERS + '[1, 1, 1]'),
        ('MixSKD', '', PEERS + '[0, 1]'), ('BYOT', '', PEERS + '[1, 0]'),
        ('BYOTJournal', '', PEERS + '[1, 0]'),
        ('FFL', '', PEERS + '[1]'), ('CSKD', '', ''), ('DDGSD', '', ''), ('BAKE', '', ''),
        ('PSKD', '', ''), ('TfKD', '', ''),
    ],
)  # fmt: skip
def test_online_and_alone(kind, more, branches, tools, tmp_path):  # noqa: F811
    size = 20 if kind == 'MCL' else 64  # two images of each of ten classes
    config = config_of(tmp_path, kind, more, True, branches)
    check(tools, config, tmp_path, [f'train_dataloader.batch_size={size}'])


def test_batches_of_another_kind(in_process, tmp_path):
    config = config_of(tmp_path, 'CSKD', alone=True)
    options = ('--cfg-options', *SHORT, 'train_dataloader.batch_sampler.type=RepeatedBatchSampler')
    options += ('train_dataloader.batch_sampler.views=2',)
    status, error = in_process('tools/train.py', config, '--work-dir', tmp_path / 'w', *options)
    assert status == 1 and error.startswith('error: train_dataloader.batch_sampler: expected')
    assert 'PairBatchSampler' in error and 'RepeatedBatchSampler' in error


def test_mixed_images_have_no_right_class(teacher, in_process, tmp_path):
    cutmix = "dict(augments=[dict(type='CutMix', alpha=1.0)])"
    mixed = f'data_preprocessor = dict(batch_augments={cutmix})'
    config = config_of(tmp_path, 'DKD')
    config.write_text(config.read_text() + mixed)
    options = ('--cfg-options', *SHORT, f'model.teacher_ckpt={teacher}')
    status, error = in_process('tools/train.py', config, '--work-dir', tmp_path / 'w', *options)
    assert status == 1 and error.startswith('error: model.type=DKD: expected one label an image')

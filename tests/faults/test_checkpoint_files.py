"""Checkpoints on disks that are full, and files that something else damaged."""

import shutil

import pytest
import torch

from hsakd.utils.checkpoint import checkpoint_damage
from tests.faults.conftest import assert_same_training, last, load
from tests.faults.test_resume import DIGITS, PLAIN, start, train

KEEP_ALL = (*DIGITS, 'default_hooks.checkpoint.interval=4')


@pytest.fixture(scope='module')
def whole(tools, tmp_path_factory):
    """A work dir with iter_4.pth, iter_8.pth, and iter_12.pth at the end."""
    folder = tmp_path_factory.mktemp('whole') / 'work'
    train(tools, PLAIN, folder, KEEP_ALL)
    return folder


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def remove(path):
    path.unlink()


def empty(path):
    path.write_bytes(b'')


@pytest.mark.parametrize('damage', [cut_short, flip_a_bit, remove, empty])
def test_resumes_from_the_newest_whole_one(damage, whole, tools, tmp_path):
    work_dir = tmp_path / 'moved'
    shutil.copytree(whole, work_dir)
    (work_dir / 'last_checkpoint').write_text('/where/it/was/iter_12.pth')
    damage(work_dir / 'iter_12.pth')
    resumed = train(tools, PLAIN, work_dir, KEEP_ALL, '--resume')
    assert f"resuming from '{work_dir / 'iter_8.pth'}' instead of" in resumed.output
    assert 'iter_12.pth' in resumed.output
    assert_same_training(whole / 'iter_12.pth', work_dir / 'iter_12.pth')


def test_none_is_whole(whole, tools, tmp_path):
    """It is said, and nothing is lost."""
    work_dir = tmp_path / 'work'
    shutil.copytree(whole, work_dir)
    for path in work_dir.glob('iter_*.pth'):
        cut_short(path)
    before = {path: path.read_bytes() for path in work_dir.glob('*.pth')}
    process = tools.start(
        'tools/train.py', PLAIN, '--work-dir', work_dir, '--resume', log=tmp_path / 'log'
    )
    assert process.wait() == 1
    assert 'error: --resume: expected' in process.output
    assert 'Traceback' not in process.output
    assert before == {path: path.read_bytes() for path in work_dir.glob('*.pth')}


def test_a_new_training_is_not_resumed_from_an_old_one(whole, tools, tmp_path):
    """One that is killed before its first checkpoint starts again at the start."""
    work_dir = tmp_path / 'work'
    shutil.copytree(whole, work_dir)
    options = (*KEEP_ALL, 'randomness.seed=1', 'default_hooks.checkpoint.interval=100')
    process = start(tools, PLAIN, work_dir, options)
    while (work_dir / 'last_checkpoint').exists():
        assert process.wait(0.01) is None, process.output
    process.kill()
    process.wait()
    again = train(tools, PLAIN, work_dir, options, '--resume')
    assert 'training starts from scratch' in again.output


def test_two_trainings_in_one_work_dir(tools, tmp_path):
    """The second one is refused and touches nothing; after a kill of the first it goes on."""
    work_dir = tmp_path / 'work'
    first = start(tools, PLAIN, work_dir, ('train_cfg.max_epochs=1000',))
    while not (work_dir / 'last_checkpoint').exists():
        assert first.wait(0.01) is None, first.output
    second = tools.start('tools/train.py', PLAIN, '--work-dir', work_dir, log=tmp_path / 'log')
    assert second.wait() == 1
    expected = 'expected one in which nothing is being trained'
    assert expected in second.output and f'process {first.pid} of' in second.output
    assert not (work_dir / '.starting').exists() and first.wait(0) is None
    first.kill()
    first.wait()
    assert 'resumed' in train(tools, PLAIN, work_dir, KEEP_ALL, '--resume').output


def test_best_ones_by_several_metrics(tools, tmp_path):
    """Of each the best one is kept, and a run that goes on knows them."""
    options = (
        'train_cfg.max_epochs=3', 'train_cfg.val_interval=1', 'val_dataloader.batch_size=800',
        'default_hooks.checkpoint.save_best="[accuracy/top1,accuracy/top5]"',
    )  # fmt: skip
    work_dir = tmp_path / 'work'
    train(tools, PLAIN, work_dir, (*options, 'train_cfg.max_epochs=2'))
    train(tools, PLAIN, work_dir, options, '--resume')
    best = sorted(path.name for path in work_dir.glob('best_*'))
    assert [name.rsplit('_', 2)[0] for name in best] == ['best_accuracy_top1', 'best_accuracy_top5']
    assert sorted(work_dir.glob('epoch_*')) == [work_dir / 'epoch_3.pth']


def test_a_config_in_a_checkpoint_is_not_run(whole, tools, tmp_path):
    """mmengine's runner runs ``meta.config`` when it resumes."""
    checkpoint = load(whole / 'iter_8.pth')
    marker = tmp_path / 'ran'
    checkpoint['meta']['config'] = f'import os\nos.makedirs({str(marker)!r})\n'
    torch.save(checkpoint, tmp_path / 'iter_8.pth')
    train(tools, PLAIN, tmp_path / 'work', KEEP_ALL, '--resume', tmp_path / 'iter_8.pth')
    assert last(tmp_path / 'work').name == 'iter_12.pth' and not marker.exists()


def test_files_of_another_training_are_left_alone(whole, tools, tmp_path):
    """Also those that a checkpoint calls superfluous."""
    checkpoint = load(whole / 'iter_8.pth')
    checkpoint['message_hub']['runtime_info']['outdated_ckpts'] = ['epoch_1.pth', 'notes.txt']
    work_dir = tmp_path / 'work'
    for folder in (tmp_path / 'other', work_dir):
        folder.mkdir()
        (folder / 'epoch_1.pth').touch()
        (folder / 'notes.txt').touch()
    torch.save(checkpoint, tmp_path / 'other/iter_8.pth')
    train(tools, PLAIN, work_dir, KEEP_ALL, '--resume', tmp_path / 'other/iter_8.pth')
    assert (work_dir / 'epoch_1.pth').exists() and (work_dir / 'notes.txt').exists()
    other = tmp_path / 'other'
    train(tools, PLAIN, other, KEEP_ALL, '--resume', other / 'iter_8.pth')
    assert (other / 'notes.txt').exists()


def test_a_copy_leaves_the_original_as_it_is(tools, tmp_path):
    one, two = tmp_path / 'one', tmp_path / 'two'
    options = ('train_cfg.val_interval=1', 'val_dataloader.batch_size=800')
    train(tools, PLAIN, one, (*options, 'train_cfg.max_epochs=1'))
    shutil.copytree(one, two)
    before = {path.name: path.read_bytes() for path in one.glob('*.pth')}
    train(tools, PLAIN, two, (*options, 'train_cfg.max_epochs=3'), '--resume')
    assert before == {path.name: path.read_bytes() for path in one.glob('*.pth')}
    assert len(list(two.glob('best_*'))) == 1


def test_a_restart_at_the_start_is_not_resumed_from_an_old_training(whole, tools, tmp_path):
    """The launcher starts a process again that ended before training began."""
    work_dir = tmp_path / 'work'
    shutil.copytree(whole, work_dir)
    options = (*KEEP_ALL, 'randomness.seed=1')
    missing = (*options, 'model.head.num_classes=7')  # it ends when it is set up
    assert start(tools, PLAIN, work_dir, missing).wait() == 1
    again = train(tools, PLAIN, work_dir, options, TORCHELASTIC_RESTART_COUNT='1')
    assert 'resumed' not in again.output
    assert load(last(work_dir))['meta']['seed'] == 1


@pytest.mark.parametrize('small_disk', ['2200k'], indirect=True)  # for three of 0.66 MB
@pytest.mark.parametrize('stop', [True, False])
def test_full_disk(stop, small_disk, tools, tmp_path):
    """Training stops with a clear error, or goes on, and the last good file is intact."""
    work_dir = small_disk / 'work'
    options = (*DIGITS, 'default_hooks.checkpoint.save_best=None')  # iter_3.pth, ..., iter_12.pth
    setting = f'default_hooks.checkpoint.stop_on_error={stop}'
    process = tools.start(
        'tools/train.py', PLAIN, '--work-dir', work_dir, '--no-validate', '--cfg-options',
        *options, setting, log=tmp_path / 'log',
    )  # fmt: skip
    assert process.wait() == int(stop), process.output
    assert 'iter_12.pth: expected' in process.output
    assert 'No space left on device' in process.output
    assert 'Traceback' not in process.output
    assert ('training goes on' in process.output) is not stop
    assert last(work_dir).name == 'iter_9.pth' and checkpoint_damage(last(work_dir)) == ''
    assert not list(work_dir.glob('.*.tmp'))
    if stop:  # with some space, it goes on
        (work_dir / 'iter_3.pth').unlink()
        train(tools, PLAIN, work_dir, options, '--resume', '--no-validate')
        assert last(work_dir).name == 'iter_12.pth'

"""A run that is asked to stop saves, says so by its status, and goes on exactly from there."""

import os
import signal
import time

import pytest

from hsakd.apis.training_runs import ToolExit, call
from tests.conftest import ROOT
from tests.faults.conftest import assert_same_training, last, load
from tests.faults.test_resume import IMAGES, PLAIN, images, start, train

LONG = (
    'train_cfg.max_epochs=12', 'train_cfg.val_interval=6', 'val_dataloader.batch_size=800',
)  # fmt: skip


@pytest.mark.parametrize(
    'case, number, status',
    [
        ('epochs', signal.SIGTERM, 75),
        ('iterations with workers', signal.SIGUSR1, 75),
        ('epochs', signal.SIGINT, 130),
        ('iterations with workers', signal.SIGINT, 130),
    ],
)
def test_saves_and_goes_on(case, number, status, tools, tmp_path):
    """The signal goes to all processes of the run, as Slurm's, torchrun's and Ctrl-C's do."""
    config, options = PLAIN, LONG
    if case != 'epochs':
        config = IMAGES
        options = (*images(tmp_path / 'images'), 'train_cfg.max_iters=24')
    work_dir = tmp_path / 'cut'
    process = start(tools, config, work_dir, options)
    while not (work_dir / 'last_checkpoint').exists():
        assert process.wait(0.01) is None, process.output
    asked = time.monotonic()
    process.kill(number)
    assert process.wait(30) == status, process.output
    assert time.monotonic() - asked < 10
    assert f'stopped by {number.name} after iteration' in process.output
    assert 'from which --resume goes on' in process.output
    assert 'Traceback' not in process.output
    assert last(work_dir) == work_dir / 'interrupted.pth'
    assert not list(work_dir.glob('.*.tmp'))

    train(tools, config, work_dir, options, '--resume')
    assert not (work_dir / 'interrupted.pth').exists()
    train(tools, config, tmp_path / 'whole', options)
    assert_same_training(last(tmp_path / 'whole'), last(work_dir))


def test_during_a_validation(tools, tmp_path):
    """Validation is finished first; the run that goes on validates there again."""
    work_dir = tmp_path / 'cut'
    options = ('train_cfg.max_epochs=2', 'train_cfg.val_interval=1', 'val_dataloader.batch_size=8')
    process = start(tools, PLAIN, work_dir, options)
    while not (work_dir / 'epoch_1.pth').exists():
        assert process.wait(0.001) is None, process.output
    process.kill(signal.SIGTERM)
    assert process.wait(30) == 75, process.output
    assert load(last(work_dir))['meta']['iter'] in (4, 5)
    train(tools, PLAIN, work_dir, options, '--resume')
    train(tools, PLAIN, tmp_path / 'whole', options)
    assert_same_training(last(tmp_path / 'whole'), last(work_dir))


def test_with_checkpoints_of_two_kinds(tools, tmp_path):
    """After every epoch and every third iteration, by two hooks."""
    config = tmp_path / 'config.py'
    config.write_text(
        f"_base_ = ['{ROOT / PLAIN}']\n"
        'custom_hooks = [*_base_.custom_hooks,\n'
        "    dict(type='CheckpointHook', by_epoch=False, interval=3)]\n"
    )
    work_dir = tmp_path / 'work'
    process = start(tools, config, work_dir, LONG)
    while not (work_dir / 'iter_3.pth').exists():
        assert process.wait(0.01) is None, process.output
    process.kill(signal.SIGTERM)
    assert process.wait(30) == 75, process.output
    assert last(work_dir) == work_dir / 'interrupted.pth'


@pytest.mark.parametrize(
    'tool, number, status',
    [
        ('distill', signal.SIGTERM, 75),
        ('distill', signal.SIGINT, 130),
        ('compare', signal.SIGTERM, 75),
    ],
)
def test_a_tool_that_trains_hands_it_on(tool, number, status, tools, tmp_path):
    """SIGTERM to the tool alone, and Ctrl-C to it and what it runs."""
    config = ROOT / 'configs/hsakd/hsakd-offline_wrn-16-2_wrn-10-1_1xb64-80e_digits.py'
    process = tools.start(f'tools/{tool}.py', config, log=tmp_path / 'log', cwd=tmp_path)
    work_dir = tmp_path / 'work_dirs/hsakd-teacher_wrn-16-2_1xb64-80e_digits'
    while not (work_dir / 'last_checkpoint').exists():
        assert process.wait(0.01) is None, process.output
    if number == signal.SIGTERM:
        os.kill(process.pid, number)
    else:
        process.kill(number)
    assert process.wait(30) == status, process.output
    assert last(work_dir) == work_dir / 'interrupted.pth'
    assert 'Traceback' not in process.output
    assert f'stopped with status {status}; the same command' in process.output
    if tool == 'compare':
        assert '/ 80 epochs' in (tmp_path / 'work_dirs/comparison/comparison.md').read_text()


@pytest.mark.parametrize(('number', 'status'), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_training_that_ends_as_it_is_asked_to_stop_is_the_last(monkeypatch, number, status):
    monkeypatch.setattr('hsakd.apis.training_runs._wait', lambda process: (process.wait(), number))
    with pytest.raises(ToolExit) as stopped:
        call('train', ['--help'], '[1/2] teacher')
    assert stopped.value.code == status and stopped.value.asked

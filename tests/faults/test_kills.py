"""Runs that are killed at any moment leave a checkpoint that loads, and go on from it."""

import random
import time

import pytest

from hsakd.utils.checkpoint import checkpoint_damage
from tests.faults.conftest import assert_same_training, last, load
from tests.faults.test_resume import IMAGES, PLAIN, images, start, train

#: 11 MB of weights and 11 of momentum, saved after every iteration.
LARGE = (
    'train_cfg.max_epochs=6', 'train_cfg.val_interval=6', 'val_dataloader.batch_size=800',
    'default_hooks.checkpoint.by_epoch=False', 'default_hooks.checkpoint.interval=1',
    'model.backbone.widen_factor=4', 'model.backbone.depth=16', 'model.head.in_channels=256',
)  # fmt: skip


def kill_and_resume(tools, config, options, tmp_path, kills, moment):
    """Kill a training at ``kills`` moments, each a function of its process and work dir.

    Returns:
        Kills that met it at work, and how many of them in the middle of a save.
    """
    train(tools, config, tmp_path / 'whole', options)
    work_dir, met, saving = tmp_path / 'cut', 0, 0
    while True:
        process = start(tools, config, work_dir, options, '--resume')
        if met < kills:
            moment(process, work_dir)
        status = process.wait(120 if met >= kills else 0)
        if status is not None:
            assert status == 0, process.output
            break
        process.kill()
        if process.wait() == 0:  # it came to its end meanwhile
            break
        met += 1
        saving += any(f'.{process.pid}.' in path.name for path in _temporary(work_dir))
        if (work_dir / 'last_checkpoint').exists():
            checkpoint = last(work_dir)
            assert checkpoint_damage(checkpoint) == ''
            assert {'optimizer', 'message_hub'} <= set(load(checkpoint))
    assert_same_training(last(tmp_path / 'whole'), last(work_dir))
    assert not list(work_dir.glob('.*.tmp'))
    return met, saving


def some_time(rng):
    """A random moment: of the start, or soon after the first checkpoint of a session.

    Without the latter many a run would be killed again and again before it has come any further.
    """

    def moment(process, work_dir):
        if rng.random() < 0.5:
            process.wait(rng.uniform(0, 3))
            return
        pointer = work_dir / 'last_checkpoint'
        before = time.time_ns()
        while process.wait(0.01) is None and time.time_ns() < before + 60e9:
            if pointer.exists() and pointer.stat().st_mtime_ns > before:
                process.wait(rng.uniform(0, 0.5))
                return

    return moment


def during_a_save(rng):
    """While the temporary file of a checkpoint is there, the first or second of a session."""

    def moment(process, work_dir):
        seen = set()
        number = rng.randint(1, 2)
        end = time.monotonic() + 60
        while time.monotonic() < end and process.wait(0) is None:
            for _ in range(100):  # without asking the server, so that no save is missed
                seen |= {path.name for path in _temporary(work_dir)}
                if len(seen) >= number:
                    return

    return moment


def _temporary(work_dir):
    return list(work_dir.glob('.*.pth.*.tmp'))


@pytest.mark.parametrize('kills', [3, pytest.param(50, marks=pytest.mark.slow)])
def test_random_kills(kills, tools, tmp_path):
    options = (*images(tmp_path / 'images'), f'train_cfg.max_iters={20 * kills + 8}')
    options += ('default_hooks.checkpoint.interval=1',)
    met, _ = kill_and_resume(tools, IMAGES, options, tmp_path, kills, some_time(random.Random(0)))
    assert met == kills
    print(f'{met} kills')


@pytest.mark.parametrize('kills', [2, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_during_a_save(kills, tools, tmp_path):
    options = (*LARGE, f'train_cfg.max_epochs={kills + 8}')
    met, saving = kill_and_resume(
        tools, PLAIN, options, tmp_path, kills, during_a_save(random.Random(0))
    )
    assert met >= kills // 2 and saving >= kills // 4
    print(f'{met} kills, {saving} of them in the middle of a write')

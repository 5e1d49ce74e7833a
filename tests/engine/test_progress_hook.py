"""What a run says of its progress where there is no terminal; with one see test_outputs.py."""

import sys
import time
from types import SimpleNamespace

import pytest
import torch

from hsakd.engine import ProgressHook, RunRecordHook
from hsakd.engine.display import Display, slow
from hsakd.engine.message_hub import DeferredMessageHub
from tests.engine.test_message_hub import HostReads


class Case:
    """A run of 3 epochs of 100 batches of 8 images, a clock, and what is said."""

    def __init__(self):
        self.now, self.said = 0.0, []
        record = RunRecordHook()
        record.run = SimpleNamespace(metrics={})
        self.runner = SimpleNamespace(
            iter=0,
            epoch=0,
            max_epochs=3,
            max_iters=300,
            hooks=[record],
            message_hub=DeferredMessageHub('progress'),
            logger=SimpleNamespace(info=self.said.append),
            val_dataloader=range(50),
        )
        self.hook = ProgressHook(clock=lambda: self.now)

    def train(self, steps, seconds=1.0):
        for _ in range(steps):
            self.now += seconds
            self.runner.message_hub.update_scalar('train/loss', torch.tensor(2.0))
            self.hook.after_train_iter(self.runner, 0, dict(inputs=torch.zeros(8, 3)))
            self.runner.iter += 1

    def validate(self, steps, seconds=1.0):
        self.hook.before_val(self.runner)
        for _ in range(steps):
            self.now += seconds
            self.hook.after_val_iter(self.runner, 0, dict(inputs=[None] * 16))
        self.hook.after_val(self.runner)


@pytest.fixture
def case(monkeypatch):
    monkeypatch.setattr('hsakd.engine.hooks.progress_hook.at_the_start', lambda runner: 'start')
    monkeypatch.setattr('hsakd.engine.hooks.progress_hook.at_the_end', lambda _, speed: speed)
    case = Case()
    case.hook.before_train(case.runner)
    return case


def test_a_line_every_30_seconds_and_no_wait_between(case):
    case.train(1)
    with HostReads() as reads:
        case.train(28)
    assert case.said == ['start'] and reads.count == 0
    with HostReads() as reads:
        case.train(1)
    assert reads.count == 1
    line = 'epoch 1/3, iteration 30/300, 8 images/s, ETA 0:04:30, loss 2'
    assert case.said == ['start', line]
    case.train(61)
    assert len(case.said) == 4 and 'iteration 90/300' in case.said[-1]
    case.validate(8)
    case.hook.after_train(case.runner)
    assert case.said[-1] == 8  # images a second


def test_speed_is_of_training_alone_and_the_time_left_of_everything(case):
    case.train(21)
    case.runner.hooks[0].run.metrics = {'accuracy/top1': 41.25}
    case.validate(8)
    assert case.said == ['start']
    case.train(1)
    assert case.said[-1] == (
        'epoch 1/3, iteration 22/300, 8 images/s, ETA 0:06:24, loss 2, top1 41.25'
    )  # 29 seconds for 21 iterations after the first


def test_long_validations_are_shown_too(case):
    case.train(2)
    case.validate(50)
    assert case.said[1:] == ['validating, iteration 30/50, 16 images/s, ETA 0:00:20']


def test_the_first_iteration_is_no_measure(case):
    """In it compilers run and workers start."""
    case.train(1, seconds=500)
    assert case.said == ['start']
    case.train(1)
    assert case.said[-1].startswith('epoch 1/3, iteration 2/300, 8 images/s, ETA 0:04:58')


@pytest.mark.parametrize('term, lines', [('xterm', 1), ('dumb', 0)])
def test_only_a_terminal_that_can_draw_has_lines(term, lines, monkeypatch, capsys):
    monkeypatch.setenv('TERM', term)
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, 'isatty', lambda: True)
    with Display() as display:
        assert (display.add('reading') is not None) == lines
        print('above')
    assert display.add('reading') is None or lines
    display.stop()
    shown = capsys.readouterr()
    assert ('━' in shown.err) == lines and 'above' in shown.out + shown.err


def test_a_clock_that_stands_still_where_something_is_slow(caplog):
    """So that no speed is too low and no line early because something was compiled."""
    clock = ProgressHook()._clock
    before = clock()
    with slow('sleeping'):
        time.sleep(0.2)
    assert clock() - before < 0.1

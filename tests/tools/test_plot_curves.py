from pathlib import Path

import pytest
from PIL import Image

from hsakd.results.runs import find_runs
from hsakd.results.tables import group_runs
from hsakd.visualization import draw_curves
from tests.tools.work_dirs import PLAIN, STUDENT, write_run

TOOL = 'tools/analysis_tools/plot_curves.py'


@pytest.fixture
def lines(monkeypatch) -> list[dict]:
    """What is drawn: x, mean, and the band's lowest and highest, by call."""
    drawn = []
    from matplotlib.axes import Axes

    plot, fill = Axes.plot, Axes.fill_between

    def record_plot(self, x, y, **kwargs):
        drawn.append(dict(x=list(x), mean=list(y)))
        return plot(self, x, y, **kwargs)

    def record_fill(self, x, low, high, **kwargs):
        drawn[-1].update(low=list(low), high=list(high))
        return fill(self, x, low, high, **kwargs)

    monkeypatch.setattr(Axes, 'plot', record_plot)
    monkeypatch.setattr(Axes, 'fill_between', record_fill)
    return drawn


def test_mean_and_range_over_seeds(tmp_path, lines):
    for seed, top1 in enumerate([74, 75, 79]):
        write_run(tmp_path / str(seed), PLAIN, top1, seed, curve=True)
    runs, _ = find_runs([tmp_path])
    draw_curves(group_runs(runs), ['accuracy/top1', 'loss_cls'])
    accuracy, loss = lines
    assert accuracy['x'] == loss['x'] == list(range(1, 241))
    last = [accuracy[key][-1] for key in ('mean', 'low', 'high')]
    assert last == pytest.approx([76, 74, 79])
    assert loss['mean'][0] == pytest.approx((5 / 1 + 5 / 2) / 2)  # of the records of epoch 1


def test_tool_draws_unfinished_runs_by_themselves(tmp_path, in_process, lines, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / 'a', STUDENT, 78, seed=0, curve=True)
    write_run(tmp_path / 'b', STUDENT, 79, seed=1, curve=True)
    write_run(tmp_path / 'c', STUDENT, 20, seed=2, epochs=9, curve=True)
    options = ('a', 'b', 'c', '--out', 'o/c.png')
    assert in_process(TOOL, *options, '--keys', 'accuracy/top1') == (0, '')
    whole, part = lines
    assert whole['mean'][-1] == pytest.approx(78.5)
    assert part['x'] == list(range(1, 10)) and part['mean'][-1] == 20
    with Image.open('o/c.png') as picture:
        assert picture.format == 'PNG' and picture.width >= 1000
    status, error = in_process(TOOL, *options)
    assert status == 1 and '--force' in error
    assert in_process(TOOL, *options, '--force')[0] == 0
    with Image.open('o/c.png') as two_panels:
        assert two_panels.width > picture.width


def test_bad_input_is_named(tmp_path, in_process, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / 'a', PLAIN, 78, curve=True)
    write_run(tmp_path / 'b', 'resnet8_1xb32-300i_images32', 78, curve=True)
    for options, words in (
        (['a', '--keys', 'los'], '--keys: expected accuracy/top1, '),
        (['a', 'b'], 'train_cfg.max_epochs'),
        (['c'], "'c'"),
    ):
        status, error = in_process(TOOL, *options, '--out', 'c.png')
        assert status == 1 and words in error and 'Traceback' not in error
    assert not Path('c.png').exists()

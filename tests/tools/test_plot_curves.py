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
    write_run(tmp_path / 'b', PLAIN, 78)
    for options, words in (
        (['a', '--keys', 'los'], '--keys: expected accuracy/top1, '),
        (['b'], 'WORK_DIR: expected a run with curves'),
        (['c'], "'c'"),
    ):
        status, error = in_process(TOOL, *options, '--out', 'c.png')
        assert status == 1 and words in error and 'Traceback' not in error
    assert not Path('c.png').exists()


def test_epochs_and_iterations_are_drawn_in_rows(tmp_path, in_process, lines, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / 'a', PLAIN, 78, curve=True)
    write_run(tmp_path / 'b', 'resnet8_1xb32-300i_images32', 60, epochs=300, curve=True)
    assert in_process(TOOL, 'a', '--out', 'a.png') == (0, '')
    lines.clear()
    assert in_process(TOOL, 'a', 'b', '--out', 'both.png') == (0, '')
    assert sorted(line['mean'][-1] for line in lines if line['mean'][-1] > 50) == [60, 78]
    with Image.open('a.png') as one, Image.open('both.png') as both:
        assert both.height > 1.7 * one.height


def test_equal_lines_and_points_are_both_seen(tmp_path, in_process, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for epochs in (1, 5):  # a point, a line
        for number, name in enumerate((PLAIN, STUDENT)):
            write_run(tmp_path / f'{epochs}' / f'{number}', name, 78, epochs=epochs, curve=True)
        command = (TOOL, str(epochs), '--keys', 'accuracy/top1', '--out', f'{epochs}.png')
        assert in_process(*command)[0] == 0
        with Image.open(f'{epochs}.png') as picture:
            drawn = picture.convert('RGB').crop((0, 0, picture.width, int(0.7 * picture.height)))
        colors = {color: count for count, color in drawn.getcolors(1 << 24)}
        for color in (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00):
            assert colors.get(color, 0) > 50


def test_ticks_of_losses_are_plain_numbers(tmp_path, in_process, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / 'a', PLAIN, 78, epochs=3, curve=True)  # from 5 to 0.8
    texts = []
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    save = Figure.savefig

    def record(self, *args, **kwargs):
        save(self, *args, **kwargs)
        axes: list[Axes] = self.axes
        ticks = [t for a in axes for t in a.get_yticklabels(minor=False)]
        ticks += [t for a in axes for t in a.get_yticklabels(minor=True)]
        texts.extend(tick.get_text() for tick in ticks)

    monkeypatch.setattr(Figure, 'savefig', record)
    assert in_process(TOOL, 'a', '--keys', 'loss_cls', '--out', 'a.png')[0] == 0
    written = [text for text in texts if text]
    assert {'1', '2'} <= set(written) and all(float(text) > 0 for text in written)

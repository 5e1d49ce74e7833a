import importlib.util
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from hsakd.visualization import (
    Comparison,
    Run,
    draw_comparison,
    mean_std,
    read_scalars,
    render_report,
    summary_rows,
)
from hsakd.visualization.report import verdict
from tests.conftest import ROOT, run_tool

TOOL = 'tools/quickstart.py'


def load_tool():
    spec = importlib.util.spec_from_file_location('quickstart', ROOT / TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def history(top1: float) -> list[dict[str, float]]:
    """Two epochs, as mmengine writes them."""
    branches = {
        f'branch_{branch}/{what}_top1': top1 - branch
        for branch in (1, 2)
        for what in ('class', 'joint')
    }
    records = []
    for epoch in (1, 2):
        records += [
            {'loss': 3.0 / epoch, 'loss_cls': 2.0 / epoch, 'epoch': epoch, 'step': 4 * epoch},
            {'accuracy/top1': top1 * epoch / 2, **branches, 'step': epoch},
        ]
    return records


def comparison(teacher: list[float], plain: list[float], distilled: list[float]) -> Comparison:
    """Top-1 by seed; 50 test images, of which the predictions are made up."""
    rng = np.random.default_rng(0)
    labels = np.arange(50) % 10

    def runs(values: list[float], parameters: int) -> list[Run]:
        return [
            Run(f'train <{v}>', 60.0, history(v), parameters, rng.permutation(labels))
            for v in values
        ]

    return Comparison(
        runs(teacher, 900),
        runs(plain, 100),
        runs(distilled, 100),
        networks=('big', 'small', 'small'),
        seeds=range(len(plain)),
        train_size=20,
        images=rng.integers(0, 255, (50, 8, 8, 3), dtype=np.uint8),
        labels=labels,
    )


class References(HTMLParser):
    """Tags that are open, and what attributes refer to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.references = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag not in ('meta', 'img'):
            self.open.append(tag)
        self.references += [value for name, value in attrs if name in ('src', 'href', 'srcset')]
        assert tag not in ('link', 'script', 'iframe')

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_self_contained(page: str) -> None:
    parsed = References(page)
    assert not parsed.open
    assert len(parsed.references) == 1
    assert parsed.references[0].startswith('data:image/png;base64,')
    assert 'url(' not in page
    assert '@import' not in page
    assert '$' not in page  # placeholders


@pytest.fixture(scope='module')
def quickstart(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('quickstart')
    return work_dir, run_tool(TOOL, '--work-dir', work_dir, '--epochs', 2)


def test_three_trainings_a_table_and_the_path_of_the_report(quickstart):
    work_dir, done = quickstart
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == str(work_dir / 'report.html')
    commands = [line for line in lines if line.startswith('$ python tools/train.py configs/')]
    assert len(commands) == 3
    assert f'model.teacher_ckpt={work_dir}/teacher/epoch_2.pth' in commands[2]
    assert len(lines) < 35
    assert max(len(line) for line in lines if not line.startswith(('$', '/'))) <= 80

    top1 = {}
    for folder, name in (('baseline', 'plain'), ('distilled', 'distilled'), ('teacher', 'teacher')):
        (scalars,) = (work_dir / folder).glob('*/vis_data/scalars.json')
        records = [record for record in read_scalars(scalars) if 'accuracy/top1' in record]
        top1[folder] = records[-1]['accuracy/top1']
        row = next(line for line in lines if re.match(rf'\s*{name}.* WRN', line))
        assert f'{top1[folder]:.2f}' in row
        assert ('691,674' if name == 'teacher' else '77,850') in row
        if name == 'distilled':
            assert f'{top1["distilled"] - top1["baseline"]:+.2f}' in row


def test_files_of_the_quickstart(quickstart):
    work_dir, _ = quickstart
    with Image.open(work_dir / 'curves.png') as picture:
        assert picture.width >= 1200
        assert 2 < picture.width / picture.height < 3
        picture.load()
    page = (work_dir / 'report.html').read_text()
    check_self_contained(page)
    for text in ('200 real scans', '1,597', 'branch 3', 'torch 2', 'hardware', 'randomness.seed=0'):
        assert text in page
    assert (work_dir / 'teacher' / 'output.log').read_text()


def test_training_that_fails_shows_its_end_and_passes_its_status_on(tmp_path, capfd):
    train = load_tool().train
    for code, status in (
        ("[print('line', i) for i in range(99)]; raise SystemExit(3)", 3),
        ('import os, signal; os.kill(os.getpid(), signal.SIGKILL)', 137),
    ):
        with pytest.raises(SystemExit) as exit_:
            train(['-c', code], 'teacher', tmp_path / 'teacher', 2, Console(file=io.StringIO()))
        assert exit_.value.code == status
        error = capfd.readouterr().err
        assert 'error: training the teacher failed' in error
        assert str(tmp_path / 'teacher' / 'output.log') in error
        if status == 3:
            assert 'line 98' in error
            assert 'line 50' not in error


def test_shortened_schedules_fit_the_real_config():
    tool = load_tool()
    full = tool.train_command(tool.PARTS[0], Path('dir'), 7, 80, 80)
    assert full[-2:] == ['--cfg-options', 'randomness.seed=7']
    one = tool.train_command(tool.PARTS[2], Path('dir'), 0, 1, 80)
    assert 'model.teacher_ckpt=dir/teacher/epoch_1.pth' in one
    assert 'param_scheduler.milestones=[1,1,1]' in one


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--epochs', 0], '--epochs=0'),
        (['--seeds', 1, 1], '--seeds=[1, 1]'),
        (['--seed', -1], '--seeds=[-1]'),
        (['--work-dir', 'a b'], "--work-dir='a b'"),
        (['--work-dir', 'Makefile'], '--work-dir: cannot write to'),
    ],
)
def test_unusable_options(in_process, options, message):
    status, error = in_process(TOOL, *options)
    assert status == 1
    assert message in error
    assert 'Traceback' not in error


def test_scalars_that_are_being_written(tmp_path):
    path = tmp_path / 'scalars.json'
    path.write_text(json.dumps({'loss': 1.0, 'step': 1}) + '\n{"loss": 0.')
    assert read_scalars(path) == [{'loss': 1.0, 'step': 1}]


def test_last_epoch_counts_not_the_best():
    run = comparison([90], [80], [85]).plain[0]
    run.history.append({'accuracy/top1': 30.0, 'step': 3})
    assert run.top1 == 30.0
    assert run.curve('accuracy/top1') == ([1, 2, 3], [40.0, 80.0, 30.0])
    assert run.curve('loss') == ([1, 2], [3.0, 1.5])


def test_verdict_of_one_seed():
    assert verdict(comparison([95], [92], [94.5])).startswith('Distillation gained 2.50 points: ')
    worse = verdict(comparison([95], [92], [90.75]))
    assert worse.startswith('Distillation cost 1.25 points: ')
    assert 'gained' not in worse
    assert verdict(comparison([95], [92], [92])).startswith('Distillation changed nothing: ')


def test_several_seeds_give_mean_and_spread():
    several = comparison([95, 95, 95], [90, 92, 94], [93, 92, 98])
    rows = summary_rows(several)
    assert rows[1] == ('plain student small', '100', '92.00 ± 2.00', '', '60')
    assert rows[2][3] == f'{7 / 3:+.2f} ± {np.std([3, 0, 4], ddof=1):.2f}'
    assert '(± 2.08) on average and helped with 2 of 3 seeds' in verdict(several)
    page = render_report(several, b'', [])
    assert 'sample standard deviation' in page
    assert '0, 1, 2' in page
    assert mean_std([1.5]) == '1.50'


def test_right_with_one_only():
    made_up = comparison([95], [92], [94])
    made_up.plain[0].predictions = made_up.labels.copy()
    made_up.distilled[0].predictions = made_up.labels.copy()
    made_up.plain[0].predictions[[3, 7]] += 1
    made_up.distilled[0].predictions[11] += 1
    gained, lost = made_up.only_right()
    assert gained.tolist() == [3, 7]
    assert lost.tolist() == [11]
    assert 'Right only with distillation: 2; only without: 1.' in verdict(made_up)


@pytest.mark.parametrize('seeds', [1, 3])
@pytest.mark.parametrize('distilled', [20.0, 99.9])
def test_picture_and_page_of_any_outcome(seeds, distilled):
    made_up = comparison([99.8] * seeds, [99.7] * seeds, [distilled] * seeds)
    picture = draw_comparison(made_up)
    with Image.open(io.BytesIO(picture)) as image:
        assert image.format == 'PNG'
    page = render_report(made_up, picture, [('a <b>', '&')])
    check_self_contained(page)
    assert 'train &lt;99.7&gt;' in page
    assert '<td>a &lt;b&gt;</td><td>&amp;</td>' in page


def test_no_digit_gained():
    made_up = comparison([95], [92], [92])
    made_up.plain[0].predictions = made_up.distilled[0].predictions
    assert draw_comparison(made_up).startswith(b'\x89PNG')

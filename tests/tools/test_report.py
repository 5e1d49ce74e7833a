"""The page on any runs, and the quickstart that ends with it."""

import io
import re
import shutil
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from hsakd.apis.report import Tested, make_report
from hsakd.results.runs import Run, find_runs
from hsakd.results.tables import collect
from hsakd.visualization import draw_classes, draw_examples
from tests.conftest import ROOT
from tests.tools.conftest import run_with_others
from tests.tools.work_dirs import PLAIN, STUDENT, write_run

TOOL = 'tools/analysis_tools/report.py'
DIGITS = 'hsakd-offline_wrn-16-2_wrn-10-1_1xb64-80e_digits'
TEACHER = 'hsakd-teacher_wrn-16-2_1xb64-80e_digits'
BASELINE = 'wrn-10-1_1xb64-80e_digits'


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


def check_self_contained(page: str, pictures: int) -> None:
    parsed = References(page)
    assert not parsed.open
    assert len(parsed.references) == pictures
    assert all(source.startswith('data:image/png;base64,') for source in parsed.references)
    assert 'url(' not in page and '@import' not in page and '$' not in page


@pytest.fixture(scope='module')
def quickstart(tmp_path_factory):
    """The two commands of ``make quickstart``, for one epoch and two seeds."""
    folder = tmp_path_factory.mktemp('quickstart')
    lines = (ROOT / 'Makefile').read_text().split('\nquickstart: ')[1].splitlines()[1:3]
    commands = [re.sub(r'\$\(\w+\)', '', line).split() for line in lines]
    (folder / 'configs').symlink_to(ROOT / 'configs')
    teacher = f'model.teacher_ckpt=work_dirs/quickstart/{TEACHER}/epoch_1.pth'
    options = ['--cfg-options', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1', teacher]
    for command, more in zip(commands, (['--seeds', 0, 1, *options], []), strict=True):
        output, _ = run_with_others(folder, *command, *more)
    return folder / 'work_dirs/quickstart', output


def test_quickstart_ends_with_a_verdict_a_picture_and_a_report(quickstart):
    work_dir, output = quickstart
    mean = {
        name: np.mean([Run.of(f).final('accuracy/top1') for f in work_dir.glob(f'{name}/seed-*')])
        for name in (DIGITS, BASELINE)
    }
    gained = mean[DIGITS] - mean[BASELINE]
    assert f'{abs(gained):.2f} points' in output and f'{mean[DIGITS]:.2f}' in output
    with Image.open(work_dir / 'curves.png') as picture:
        assert picture.width >= 1200
    page = (work_dir / 'report.html').read_text()
    alone = page.count('<h3>Images that only')
    # curves, classes beside the plain network and beside the teacher, heat maps
    check_self_contained(page, 4 + alone)
    for text in (
        'ECE (%)',
        'ONNX, an image (ms)',
        'The worst classes of wrn-10-1',
        '691,674',
        '77,850',
        '1,597 test images',
        'branch_3/joint_top1',
        'torch 2',
    ):
        assert text in page
    assert f'{TEACHER}/epoch_1' in page and 'randomness.seed=0' in page
    assert 'not tested' not in page and 'no joint' not in page


def test_calibration_and_confusions():
    classifier = SimpleNamespace(_dataset_meta=dict(classes=['cat', 'dog', 'emu']))
    predictions = [np.array([0, 1, 1, 2, 2])]
    confidences, labels = np.array([0.9, 0.9, 0.6, 0.6, 1]), np.array([0, 0, 0, 2, 2])
    tested = Tested(None, classifier, predictions, confidences, labels, None)
    # two of 0.9, one right; two of 0.6, one right; one of 1, right
    assert tested.calibration_error == pytest.approx(100 * (0.8 + 0.2 + 0) / 5)
    assert tested.confusions() == [['cat', '33.3', 'dog 66.7']]


def test_any_two_runs_also_without_checkpoints(quickstart, tmp_path):
    work_dir, _ = quickstart
    shutil.copytree(work_dir / TEACHER, tmp_path / 'a')
    shutil.copytree(work_dir / BASELINE / 'seed-0', tmp_path / 'b')
    (tmp_path / 'b/epoch_1.pth').unlink()
    found = find_runs([tmp_path / 'b', tmp_path / 'a'])
    report = make_report(collect(*found), found[0][0].name)
    (verdict,) = report.verdicts
    assert verdict.startswith('wrn-16-2 (hsakd-teacher') and 'model.backbone.depth' in verdict
    (note,) = report.notes
    assert 'wrn-10-1' in note and 'epoch_1.pth' in note
    check_self_contained(report.page, 1)


def page_of(tmp_path, **kwargs) -> tuple[str, str]:
    found = find_runs([tmp_path])
    report = make_report(collect(*found, **kwargs), found[0][0].name, test=False)
    check_self_contained(report.page, 1)
    return ' '.join(report.verdicts), report.page


@pytest.mark.parametrize(
    ('top1', 'words'),
    [(78, '5.00 points more than'), (70, '3.00 points less than'), (73, 'as much as')],
)
def test_verdict_of_one_seed(tmp_path, top1, words):
    write_run(tmp_path / 'a', STUDENT, top1, curve=True)
    write_run(tmp_path / 'b', PLAIN, 73, curve=True)
    verdict, page = page_of(tmp_path)
    assert words in verdict and '±' not in verdict
    assert '<details>' in page and 'optim_wrapper.optimizer.lr = 0.05' in page


def test_verdict_of_several_seeds(tmp_path):
    for seed, (top1, plain) in enumerate([(93, 90), (92, 92), (98, 94)]):
        write_run(tmp_path / f'a{seed}', STUDENT, top1, seed, curve=True)
        write_run(tmp_path / f'b{seed}', PLAIN, plain, seed, curve=True)
    verdict, _ = page_of(tmp_path)
    spread = np.std([3, 0, 4], ddof=1)
    assert verdict.startswith('wrn-16-2 (hsakd-offline): 94.33 ± 3.21 % top-1, ')
    assert f'2.33 points more than wrn-16-2 (alone) (± {spread:.2f})' in verdict
    assert 'better with 2 of 3 seeds' in verdict


def test_verdict_where_the_other_has_more_seeds_is_of_those_of_both(tmp_path):
    for seed, top1 in enumerate([93, 98]):
        write_run(tmp_path / f'a{seed}', STUDENT, top1, seed, curve=True)
    for seed, plain in enumerate([90, 92, 70]):
        write_run(tmp_path / f'b{seed}', PLAIN, plain, seed, curve=True)
    verdict, _ = page_of(tmp_path)
    assert '4.50 points more than wrn-16-2 (alone) (± 2.12), with 91.00 ± 1.41 %' in verdict
    assert 'better with 2 of 2 seeds' in verdict


def test_text_is_escaped_and_one_kind_of_runs_will_do(tmp_path):
    run = Run.of(write_run(tmp_path, PLAIN, 73, curve=True))
    run.command, run.settings['note'] = 'python <b>', '&'
    run.write()
    _, page = page_of(tmp_path)
    assert 'python &lt;b&gt;' in page and 'note = &amp;' in page


def test_nothing_to_show_is_an_error(tmp_path, in_process):
    write_run(tmp_path / 'a', PLAIN, 73, epochs=130)
    for arguments, words in (
        (['a'], '130 / 240 epochs'),
        (['b'], "'b'"),
        (['a', '--metric', 'mAP'], '--metric'),
    ):
        status, error = in_process(TOOL, *(tmp_path / a if len(a) == 1 else a for a in arguments))
        assert status == 1 and words.strip("'") in error and 'Traceback' not in error


@pytest.mark.parametrize('count', [1, 10, 100])
def test_pictures_of_any_number_of_classes_and_images(count):
    rng = np.random.default_rng(0)
    accuracies = tuple(100 * rng.random((2, count)))
    accuracies[0][-1] = np.nan if count > 1 else 50
    names = [f'class {i}' * 4 for i in range(count)]
    images = [rng.integers(0, 255, (8 + i % 3, 8, 3), dtype=np.uint8) for i in range(count)]
    for png in (
        draw_classes(names, accuracies, ('a', 'b')),
        draw_examples(images[:16], names, names),
    ):
        with Image.open(io.BytesIO(png)) as picture:
            assert picture.format == 'PNG' and picture.width >= 1000

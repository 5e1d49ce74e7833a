"""Classifiers, and detectors from several initializations, side by side in one command."""

import csv
import dataclasses
import io
import json
import os
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

import hsakd  # noqa: F401  puts torchvision's operators where mmdet looks for mmcv's
from hsakd.results.paired import lacking, metric_keys, paired_tables
from hsakd.results.runs import Run, find_runs
from hsakd.results.settings import comparable_settings
from hsakd.results.tables import collect
from hsakd.visualization import draw_costs
from tests.conftest import ROOT, run_tool
from tests.detection_files import CLASSES, write_voc
from tests.tools import work_dirs
from tests.tools.conftest import run_with_others

TOOL = 'tools/compare.py'
CONFIG = ROOT / 'configs/detection/bccd/faster-rcnn_resnet18-fpn_1xb4-6e_bccd.py'
PLAIN, TEACHER = 'wrn-10-1_1xb64-1e_digits', 'wrn-16-2_1xb64-1e_digits'
KD, BROKEN, NEEDY = (
    f'{method}_wrn-16-2_wrn-10-1_1xb64-1e_digits' for method in ('kd', 'broken', 'needy')
)


@pytest.fixture(scope='module')
def configs(tmp_path_factory):
    """Configs of one epoch of digits, of which one fails and one has a teacher that does."""
    folder = tmp_path_factory.mktemp('classifiers') / 'configs'
    folder.mkdir()
    wrong = "optim_wrapper = dict(optimizer=dict(type='Nothing'))"

    def write(name, base, *lines):
        base = f"_base_ = ['{ROOT}/configs/{base}.py']"
        schedule = 'train_cfg = dict(max_epochs=1, val_interval=1)'
        (folder / f'{name}.py').write_text('\n'.join([base, schedule, *lines]))

    def distilled(name, teacher, *lines):
        model = f"model = dict(type='KD', teacher_ckpt='work_dirs/{teacher}/epoch_1.pth')"
        write(name, '_base_/pairs/wrn-16-2_wrn-10-1_digits', model, *lines)

    alone = 'baseline/wrn-10-1_1xb64-80e_digits'
    teacher = 'model = dict(backbone=dict(depth=16, widen_factor=2), head=dict(in_channels=128))'
    write(PLAIN, alone)
    write(TEACHER, alone, teacher)
    write(f'bad-{TEACHER}', alone, teacher, wrong)
    distilled(KD, TEACHER)
    distilled(BROKEN, TEACHER, wrong)
    distilled(NEEDY, f'bad-{TEACHER}')
    return folder


def of(configs, *names):
    return [configs / f'{name}.py' for name in names]


@pytest.fixture(scope='module')
def trained(configs, tmp_path_factory):
    folder = tmp_path_factory.mktemp('trained')
    arguments = [TOOL, *of(configs, KD, BROKEN, NEEDY), '--seeds', 0, 1]
    output, commands = run_with_others(folder, *arguments, status=1)
    (folder / 'output.txt').write_text(output)
    names = [re.search(r'--work-dir work_dirs/(\S+)', ' '.join(words))[1] for words in commands]
    by_seed = [[f'{name}/seed-{seed}' for name in (KD, BROKEN, PLAIN)] for seed in (0, 1)]
    assert names == [TEACHER, f'bad-{TEACHER}', *by_seed[0], *by_seed[1]]  # and nothing twice
    return folder


@pytest.fixture
def again(trained, tmp_path, monkeypatch):
    """A copy of the work dirs, in the current folder."""
    shutil.copytree(trained / 'work_dirs', tmp_path / 'work_dirs')  # with the times of files
    monkeypatch.chdir(tmp_path)
    return tmp_path / 'work_dirs'


def table_of(folder) -> dict[str, dict[str, str]]:
    """The lines of comparison.csv by config, those that say why a run has none by config, seed."""
    lines = csv.DictReader((folder / 'comparison/comparison.csv').open())
    return {line['config'] if int(line['runs']) else line['note']: line for line in lines}


def test_figures_are_those_of_the_runs_and_paired_by_seed(trained):
    folder = trained / 'work_dirs'
    lines = table_of(folder)
    runs = {name: [Run.of(folder / f'{name}/seed-{s}') for s in (0, 1)] for name in (KD, PLAIN)}
    final = {n: np.array([run.final('accuracy/top1') for run in r]) for n, r in runs.items()}
    assert float(lines[KD]['mean']) == pytest.approx(final[KD].mean())
    gains = final[KD] - final[PLAIN]
    assert float(lines[KD]['gain']) == pytest.approx(gains.mean())
    assert float(lines[KD]['gain_std']) == pytest.approx(gains.std(ddof=1))
    minutes = np.mean([run.seconds for run in runs[KD]]) / 60
    assert float(lines[KD]['minutes_mean']) == pytest.approx(minutes)
    teacher = Run.of(folder / TEACHER).seconds / 60
    assert float(lines[KD]['needed_minutes']) == pytest.approx(teacher)
    assert float(lines[PLAIN]['needed_minutes']) == 0
    assert lines[TEACHER]['runs'] == '1'
    with Image.open(folder / 'comparison/accuracy_over_cost.png') as image:
        assert min(image.size) > 300


def test_runs_that_fail_are_listed_with_their_reasons(trained):
    text = (trained / 'work_dirs/comparison/comparison.md').read_text()
    for seed in (0, 1):
        assert re.search(f"- {BROKEN}, seed {seed}, .*optim_wrapper.optimizer.*'Nothing'", text)
        assert f'- {NEEDY}, seed {seed}, work_dirs/{NEEDY}/seed-{seed}: needs bad-' in text
    assert f'- bad-{TEACHER}, work_dirs/' in text
    output = (trained / 'output.txt').read_text()
    assert f'[4/10] {BROKEN}, seed 0: python' in output and '| needed minutes |' in output
    assert 'accuracy_over_cost.png' in output.splitlines()[-1]


def test_a_second_call_only_writes_the_tables(configs, again, in_process):
    shutil.rmtree(again / 'comparison')
    before = contents(again)
    arguments = [TOOL, *of(configs, KD), '--seeds', 0, 1, '--out', 'out']
    assert in_process(*arguments) == (0, '')
    assert contents(again) == before
    assert sorted(os.listdir('out')) == [
        'accuracy_over_cost.png',
        'comparison.csv',
        'comparison.md',
    ]


def test_what_was_cut_off_goes_on_and_what_is_not_there_starts(configs, again, in_process):
    before = Run.of(again / f'{KD}/seed-1')  # cut off before its validation
    dataclasses.replace(before, finished=False, done=0, validated=0, metrics={}).write()
    shutil.rmtree(again / f'{PLAIN}/seed-0')
    arguments = (TOOL, *of(configs, KD, PLAIN), '--seeds', 0, 1)
    assert in_process(*arguments, '--dry-run') == (0, '')
    assert not (again / f'{PLAIN}/seed-0').exists()
    _, (plain, kd) = run_with_others(again.parent, *arguments)
    assert f'work_dirs/{PLAIN}/seed-0' in plain and '--resume' not in plain
    assert f'work_dirs/{KD}/seed-1' in kd and '--resume' in kd
    lines = table_of(again)
    assert [lines[name]['seeds'] for name in (KD, PLAIN)] == ['0, 1'] * 2
    assert len(Run.of(before.folder).sessions) == 2


def test_other_settings_are_refused_and_stop_no_other(configs, again, in_process):
    before = contents(again)
    options = ['--seeds', 0, 1, '--cfg-options', 'model.kd_loss.temperature=9']
    status, error = in_process(TOOL, *of(configs, KD), *options)
    assert status == 1
    assert '2 of 5 runs failed' in error
    assert f'- {KD}, seed 1: work_dirs/{KD}/seed-1: expected a training with the set' in error
    assert error.count('model.kd_loss.temperature None and not 9') == 4  # at once, and at the end
    lines = table_of(again)
    assert KD not in lines and lines[PLAIN]['runs'] == '2'
    assert contents(again).keys() == before.keys()


def test_what_needs_a_refused_teacher_is_not_trained(configs, again, in_process):
    shutil.rmtree(again / KD)
    changed = 'optim_wrapper.optimizer.lr=0.5'
    status, error = in_process(TOOL, *of(configs, KD), '--cfg-options', changed)
    assert status == 1
    assert f'[2/3] {KD}, seed 0: needs {TEACHER}, which failed' in error
    assert '3 of 3 runs failed' in error
    assert not (again / KD).exists()


def test_asked_to_stop_it_stops_with_the_tables_of_what_is_there(
    configs, again, in_process, monkeypatch
):
    shutil.rmtree(again / f'{KD}/seed-1')
    process = SimpleNamespace(wait=lambda: 75, stdout=None)
    stopping = SimpleNamespace(Popen=lambda command, **_: process)
    monkeypatch.setattr('hsakd.apis.training_runs.subprocess', stopping)
    status, error = in_process(TOOL, *of(configs, KD, BROKEN), '--seeds', 0, 1)
    assert status == 75 and f'{BROKEN}, seed 0 stopped with status 75' in error
    assert table_of(again)[KD]['seeds'] == '0'
    text = (again / 'comparison/comparison.md').read_text()
    assert f'{KD}, seed 1, work_dirs/{KD}/seed-1: no run.json' in text


@pytest.mark.parametrize(
    'options, words',
    [
        ([CONFIG], '--init: expected one config, that of a detector, got 1 among 2 configs'),
        (['--init', 'random'], '--init: .*got 0 among 1 configs'),
        (['--reference', 'x'], '--init: .*got 0 among 1 configs'),
        (['--work-dirs', 'a,b'], "--work-dirs='a,b'"),
        (['--cfg-options', 'randomness.seed=1'], '--cfg-options randomness.seed: .*--seeds'),
        (['--cfg-options', 'work_dir=x'], '--cfg-options work_dir: .*--work-dirs'),
        (['--cfg-options', 'model.teacher_ckpt=x.pth'], 'no file and 0 configs'),
        ([f'{KD}.py'], 'CONFIG: expected each name once'),
        (['nowhere.py'], 'nowhere.py'),
    ],
)
def test_what_cannot_be_planned_is_named_before_training(
    configs, tmp_path, monkeypatch, in_process, options, words
):
    monkeypatch.chdir(tmp_path)
    shutil.copy(configs / f'{KD}.py', tmp_path)
    status, error = in_process(TOOL, *of(configs, KD), *options)
    assert status == 1
    assert re.search(words, error), error
    assert not os.path.exists('work_dirs')


def test_a_gain_comes_with_what_differs_in_the_training(tmp_path):
    work_dirs.write_run(tmp_path / 'a', work_dirs.STUDENT, 78)
    other = dict(optim_wrapper__optimizer__nesterov=False)
    work_dirs.write_run(tmp_path / 'b', work_dirs.PLAIN, 73, **other)
    found = collect(*find_runs([tmp_path]), alike=False)
    assert found.rows[0].gain[0] == pytest.approx(5)
    assert found.notes[0].endswith('not trained in the same way (optim_wrapper.optimizer.nesterov)')


@pytest.mark.parametrize('count', [1, 12])
def test_costs_of_any_number_of_rows_are_drawn(tmp_path, count):
    pair = work_dirs.STUDENT.partition('_')[2]
    methods = sorted(file.stem for file in (ROOT / 'configs').rglob(f'*_{pair}.py'))
    for number, name in enumerate([work_dirs.PLAIN, *methods][:count]):
        run = Run.of(work_dirs.write_run(tmp_path / str(number), name, 70 + 0.1 * number))
        run.seconds = 60.0 * (1 + number)
        run.write()
    found = collect(*find_runs([tmp_path]))
    assert len(found.rows) == count
    with Image.open(io.BytesIO(draw_costs(found.rows))) as image:
        assert image.width == 1440


def test_costs_of_a_longer_training_are_joined_to_the_shorter(tmp_path, monkeypatch):
    of = '1xb64-{}e_cifar100-25pct'
    names = [f'resnet8_{of}', f'resnet8_{of}', f'dkd_resnet20_resnet8_{of}']
    for name, length in zip(names, (24, 216, 24), strict=True):
        name = name.format(length)
        work_dirs.write_run(tmp_path / name, name, 30 + length / 10)
    figures = []
    monkeypatch.setattr('hsakd.visualization.costs.png', figures.append)
    draw_costs(collect(*find_runs([tmp_path])).rows, [1, 2, 3])
    (axes,) = figures[0].axes
    labels = [text.get_text().partition('  ')[0] for text in axes.texts]
    assert sorted(labels) == ['dkd', 'plain', 'plain, 216 epochs']
    assert axes.get_title('left').endswith('on cifar100-25pct, 24 epochs where not said')
    joined = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_zorder() == 0]
    assert len(joined) == 1


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A small detector's config, its data, and a backbone for it (plain.pth)."""
    from mmdet.models import ResNet

    folder = tmp_path_factory.mktemp('compare')
    write_voc(folder / 'data', dict(train=8, val=4, test=6))
    config = Config.fromfile(CONFIG)
    model = config.model
    model.backbone.update(base_channels=8)
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    model.rpn_head.update(in_channels=16, feat_channels=16)
    model.roi_head.bbox_roi_extractor.out_channels = 16
    model.roi_head.bbox_head.update(in_channels=16, fc_out_channels=16, num_classes=2)
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        config[key].update(num_workers=0, persistent_workers=False)
        dataset = config[key].dataset
        dataset.update(data_root=f'{folder}/data/', metainfo=dict(classes=CLASSES))
        for transform in dataset.pipeline:
            if transform.type == 'Resize':
                transform.scale = (64, 48)
    config.train_cfg.update(max_epochs=2, val_interval=1)
    config.default_hooks.checkpoint.max_keep_ckpts = -1
    config.dump(folder / 'mini.py')
    weights = ResNet(depth=18, base_channels=8).state_dict()
    torch.save(
        dict(state_dict={f'backbone.{key}': value for key, value in weights.items()}),
        folder / 'plain.pth',
    )
    return folder


def arguments(files, *more):
    plain = f'plain={files}/plain.pth'
    return [TOOL, files / 'mini.py', '--init', 'random', plain, '--images', 2, *more]


def compare(files, cwd, *more):
    """Command lines of the tools that the tool calls."""
    from mmdet.visualization import DetLocalVisualizer

    return run_with_others(cwd, *arguments(files, *more), managed=(DetLocalVisualizer,))[1]


@pytest.fixture(scope='module')
def compared(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp('compared')
    commands = compare(files, folder)
    assert [command[0] for command in commands] == ['train.py', 'test.py'] * 2
    return folder


@pytest.fixture
def copy(compared, tmp_path, monkeypatch):
    shutil.copytree(compared / 'work_dirs', tmp_path / 'work_dirs')  # with the times of files
    monkeypatch.chdir(tmp_path)
    return tmp_path / 'work_dirs/mini'


def contents(folder):
    """Times of the files that training and tests wrote."""
    return {p: p.stat().st_mtime_ns for p in folder.glob('*/**/*') if p.is_file()}


def test_trains_and_tests_each_and_writes_tables_and_pictures(compared):
    folder = compared / 'work_dirs/mini'
    for name in ('random', 'plain'):
        assert (folder / name / 'seed-0/epoch_2.pth').is_file()
        (metrics,) = folder.glob(f'{name}/seed-0/test/*/*.json')
        measured = json.loads(metrics.read_text())
        content = json.loads((folder / 'comparison.json').read_text())
        of_seed = content['initializations'][name]['by_seed']['0']
        assert of_seed['voc_area/mAP'] == pytest.approx(100 * measured['voc_area/mAP'], abs=1e-6)
        by_class = content['initializations'][name]['ap50_by_class']['0']
        assert sum(by_class.values()) / 2 == pytest.approx(of_seed['voc_area/mAP'], abs=1e-4)
        assert {'coco/bbox_mAP', *(f'coco/{name}_precision' for name in CLASSES)} < {*of_seed}
    assert content['partial'] is None
    ((file, sha256),) = content['initializations']['plain']['files'].items()
    assert file.endswith('plain.pth') and len(sha256) == 64
    text = (folder / 'comparison.md').read_text()
    assert '| initialization | seeds | voc_area/mAP | voc_11points/mAP | coco/' in text
    assert '| plain | 1 | ' in text
    assert '| class | random | plain |' in text
    assert re.search(rf'\| {CLASSES[0]} \| [+-]', text)  # the difference
    for name in ('precision_recall.png', 'predictions.png'):
        with Image.open(folder / name) as image:
            assert min(image.size) > 300


def test_what_is_done_is_skipped(files, copy, in_process):
    before = contents(copy)
    (copy / 'comparison.md').unlink()
    assert in_process(*arguments(files)) == (0, '')
    assert contents(copy) == before
    assert (copy / 'comparison.md').is_file()


def test_a_lost_test_is_done_again(files, copy):
    shutil.rmtree(copy / 'random/seed-0/test')
    before = contents(copy)
    done = run_tool(*arguments(files), cwd=copy.parents[1])
    assert done.returncode == 0, done.stderr
    assert contents(copy).items() >= before.items()
    lines = [line for line in done.stdout.splitlines() if re.match(r'\[\d/2\] ', line)]
    done_or_not = ['python' not in line for line in lines]
    assert done_or_not == [True, False, True, True]
    assert '[1/2] random, seed 0, test: python' in lines[1]
    assert len(list(copy.glob('random/seed-0/test/*/*.json'))) == 1


def test_an_interrupted_training_goes_on(files, copy):
    interrupted = copy / 'plain/seed-0'
    (interrupted / 'epoch_2.pth').unlink()
    (interrupted / 'last_checkpoint').write_text(str(interrupted / 'epoch_1.pth'))
    train, test = compare(files, copy.parents[1])
    assert train[0] == 'train.py' and '--resume' in train
    assert test[:3] == [
        'test.py',
        str(files / 'mini.py'),
        'work_dirs/mini/plain/seed-0/epoch_2.pth',
    ]
    logs = sorted(interrupted.glob('*/vis_data/scalars.json'))
    resumed = [json.loads(line) for line in logs[-1].read_text().splitlines()]
    # Its checkpoint, the best one by then, has seen the validation of epoch 1.
    assert {record['step'] for record in resumed if 'voc_area/mAP' in record} == {2}


def test_other_test_options_test_again(files, copy):
    commands = compare(files, copy.parents[1], '--cfg-options', 'test_evaluator.0.iou_thrs=[0.3]')
    assert [command[0] for command in commands] == ['test.py'] * 2
    content = json.loads((copy / 'comparison.json').read_text())
    assert 'voc_area/AP30' in content['initializations']['plain']['by_seed']['0']


def test_a_failing_run_is_listed_beside_a_partial_table(files, copy, in_process):
    shutil.rmtree(copy / 'plain')
    options = ['--cfg-options', 'default_hooks.logger.type=Nothing']  # no setting of a training
    status, error = in_process(*arguments(files, *options))
    assert status == 1
    assert '[2/2] plain, seed 0 stopped with status 1; once the cause is gone' in error
    text = (copy / 'comparison.md').read_text()
    assert 'A partial comparison: plain lacks seed 0.' in text
    assert re.search('^- plain, seed 0: .*Nothing', text, re.M)
    assert '1 of 2 runs failed' in error
    assert (copy / 'predictions.png').is_file()
    assert '| plain | 0 of 1 | – | – |' in text


def test_each_seed_may_start_from_a_file_of_its_own(files, copy):
    starts = copy.parents[1] / 'starts'
    starts.mkdir()
    for seed in (0, 1):
        shutil.copy(files / 'plain.pth', starts / f'{seed}.pth')
    init = ['--init', 'each=starts/{seed}.pth', '--seeds', 0, 1, '--dry-run']
    commands = run_tool(TOOL, files / 'mini.py', *init, cwd=copy.parents[1]).stdout
    for seed in (0, 1):
        assert re.search(
            rf'pretrained_backbone=starts/{seed}.pth .*randomness.seed={seed}', commands
        )
    (starts / '1.pth').unlink()
    refused = run_tool(TOOL, files / 'mini.py', *init, cwd=copy.parents[1])
    assert refused.returncode == 1 and "--init each='starts/1.pth'" in refused.stderr


def test_another_file_of_the_same_name_is_refused(files, copy, in_process):
    other = copy / 'plain.pth'
    weights = torch.load(files / 'plain.pth')
    weights['state_dict']['backbone.bn1.bias'] += 1
    torch.save(weights, other)
    status, error = in_process(TOOL, files / 'mini.py', '--init', f'plain={other}')
    assert status == 1
    assert re.search('plain/seed-0: .*pretrained_sha256', error)


@pytest.mark.parametrize(
    'options, words',
    [
        (['--init', 'a b=x.pth'], '--init: .*a b=x.pth'),
        (['--init', '../a=x.pth'], r'--init: .*\.\./a=x.pth'),
        (['--init', 'plain'], '--init: .*got plain'),
        (['--init', 'random', 'random'], '--init: .*random twice'),
        (['--init', 'random', 'plain=nowhere.pth'], "--init plain='nowhere.pth'"),
        (['--init', 'plain=broken.pth'], "--init plain='broken.pth'"),
        (['--init', 'plain=a,b.pth'], r"got \['a', 'b.pth'\]"),
        (['--init', 'plain=small.pth'], 'small.pth'),
        (['--reference', 'plain'], '--reference: expected random, got plain'),
        (['--cfg-options', 'randomness.seed=1'], '--cfg-options randomness.seed'),
        (['--cfg-options', 'model.backbone.frozen_stages=1'], 'model.backbone.frozen_stages=-1'),
        (['--cfg-options', 'load_from=plain.pth'], 'load_from: .*plain.pth'),
        (['--cfg-options', 'rubbish'], 'KEY=VALUE'),
    ],
)
def test_what_cannot_be_compared_is_named_before_training(
    files, tmp_path, monkeypatch, in_process, options, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'broken.pth').write_bytes(b'')
    shutil.copy(files / 'plain.pth', 'a,b.pth')
    weights = torch.load(files / 'plain.pth')
    del weights['state_dict']['backbone.bn1.bias']
    torch.save(weights, 'small.pth')
    init = [] if '--init' in options else ['--init', 'random']
    status, error = in_process(TOOL, files / 'mini.py', *init, *options)
    assert status == 1
    assert re.search(words, error), error
    assert not os.path.exists('work_dirs')


def test_classifiers_are_refused(in_process):
    config = ROOT / 'configs/baseline/wrn-10-1_1xb64-80e_digits.py'
    status, error = in_process(TOOL, config, '--init', 'random')
    assert status == 1
    assert 'that of a detector, got 0 among 1 configs' in error


def test_tables_hold_means_spreads_and_paired_differences():
    measured = dict(
        random={0: {'voc/mAP': 50.0}, 1: {'voc/mAP': 54.0}},
        plain={0: {'voc/mAP': 60.0}, 1: {'voc/mAP': 66.0}},
        distilled={1: {'voc/mAP': 70.0}},
    )
    (header, *rows), (_, *differences) = paired_tables(measured, [0, 1], 'random')
    assert header == ['initialization', 'seeds', 'voc/mAP']
    assert rows == [
        ['random', '2', '52.00 ± 2.83'],
        ['plain', '2', '63.00 ± 4.24'],
        ['distilled', '1 of 2', '70.00'],
    ]
    assert differences == [['plain', '2', '+11.00 ± 1.41'], ['distilled', '1', '+16.00']]
    assert lacking(measured, [0, 1]) == 'A partial comparison: distilled lacks seed 0.'


def test_a_metric_that_repeats_another_one_rounded_is_left_out():
    one = {'voc/mAP': 51.24, 'voc/AP50': 51.2, 'coco/bbox_mAP': 31.2, 'coco/bbox_mAP_50': 51.2}
    nothing = dict.fromkeys(one, 0.0)
    expected = ['voc/mAP', 'coco/bbox_mAP', 'coco/bbox_mAP_50']
    assert metric_keys({'a': {0: one, 1: nothing}}) == expected
    two = {**one, 'voc/AP50': 60.1}  # several thresholds
    assert 'voc/AP50' in metric_keys({'a': {0: one, 1: two}})


def sample(path='a.jpg', boxes=(), scores=(), truth=()):
    """A prediction of class 0 as tools/test.py --out writes it."""

    def instances(boxes, **more):
        count = len(boxes)
        boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        return dict(bboxes=boxes, labels=torch.zeros(count, dtype=torch.long), **more)

    return dict(
        img_path=path,
        pred_instances=instances(boxes, scores=torch.tensor(scores)),
        gt_instances=instances(truth),
        ignored_instances=instances([]),
    )


def test_precision_and_recall_follow_the_scores():
    from hsakd.visualization.detection import precision_recall

    right, wrong = [0, 0, 10, 10], [20, 20, 30, 30]
    samples = [
        sample('a.jpg', [wrong, right], [0.9, 0.8], [right]),
        sample('b.jpg', [right], [0.7], [right]),
    ]
    found, none = precision_recall(samples, 2, legacy=False)
    assert found['num_gts'] == 2 and none['num_gts'] == 0
    assert found['recall'] == pytest.approx([0, 0.5, 1])
    assert found['precision'] == pytest.approx([0, 1 / 2, 2 / 3])
    assert found['ap'] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    'paths, words',
    [(('a.jpg', 'b.jpg'), 'predictions of y'), (('gone.jpg', 'gone.jpg'), "'gone.jpg'")],
)
def test_predictions_of_no_common_images_are_refused(paths, words):
    from hsakd.utils.errors import DataError
    from hsakd.visualization.detection import draw_predictions

    predictions = {name: [sample(path)] for name, path in zip('xy', paths, strict=True)}
    with pytest.raises(DataError, match=words):
        draw_predictions(predictions, ['cat'], 1, 0.5, 'title')


def test_settings_of_detectors_are_those_that_can_change_the_outcome():
    def settings(**dataset):
        dataset = dict(type='hsakd.VOCDataset', **dataset)
        hooks = [dict(type='hsakd.SetupCheckHook'), dict(type='hsakd.OtherHook')]
        return comparable_settings(
            dict(
                train_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=dataset)),
                custom_hooks=hooks,
                pretrained_backbone='random',
            )
        )

    assert settings(data_root='here/') == settings(data_root='there/')  # VOC, wherever it lies
    own = dict(metainfo=dict(classes=('cat',)))
    assert settings(data_root='here/', **own) != settings(data_root='there/', **own)
    assert settings()['custom_hooks.0.type'] == 'hsakd.OtherHook'
    assert settings()['pretrained_backbone'] == 'random'

import csv
import io
import json
import math
import re
import subprocess

import numpy as np
import pytest

from hsakd.results.names import find_configs
from hsakd.results.runs import Run, find_runs, read_scalars
from hsakd.results.settings import checkpoint_origin, comparable_settings, shipped_settings
from hsakd.results.tables import (
    collect,
    gain,
    published_figure,
    published_figures,
    to_csv,
    to_markdown,
)
from hsakd.version import __version__
from tests.conftest import ROOT
from tests.tools.work_dirs import ONLINE, PLAIN, STUDENT, write_run

TOOL = 'tools/analysis_tools/collect_results.py'
TEACHER = 'hsakd-teacher_wrn-40-2_1xb64-240e_cifar100'
FROZEN = 'hsakd-teacher-frozen_wrn-40-2_1xb64-100e_cifar100'
IMAGES = 'resnet8_1xb32-300i_images32'


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    """So that no teacher is where the configs look for one."""
    monkeypatch.chdir(tmp_path)


def results(*folders, **kwargs):
    return collect(*find_runs(folders), **kwargs)


def cells(found, **kwargs) -> list[dict[str, str]]:
    """The Markdown table by column."""
    lines = [line for line in to_markdown(found, **kwargs).splitlines() if line.startswith('|')]
    header, _, *rows = ([cell.strip() for cell in line.split('|')[1:-1]] for line in lines)
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_seeds_gain_and_published_figures(tmp_path):
    for seed, (distilled, plain) in enumerate([(78, 73), (79, 74), (77.5, 75)]):
        write_run(tmp_path / f'seed{seed}' / 'any', STUDENT, distilled, seed)
        write_run(tmp_path / 'plain' / str(seed), PLAIN, plain, seed)
    found = results(tmp_path)
    student, plain = cells(found)
    assert (student['config'], plain['config']) == (STUDENT, PLAIN)
    assert student['runs'] == '3' and student['seeds'] == '0, 1, 2'
    assert student['top-1'] == f'78.17 ± {np.std([78, 79, 77.5], ddof=1):.2f}'
    assert plain['top-1'] == '74.00 ± 1.00'
    spread = np.std([5, 5, 2.5], ddof=1)
    assert student['gain'] == f'+4.17 ± {spread:.2f}' and plain['gain'] == ''
    assert (student['published'], plain['published']) == ('78.67', '73.57')
    assert student['top-5'].startswith('89.08 ± ')
    assert not found.left_out and not found.notes and 'changed' not in student

    first = next(csv.DictReader(io.StringIO(to_csv(found))))
    assert float(first['mean']) == pytest.approx(np.mean([78, 79, 77.5]))
    assert float(first['gain_std']) == pytest.approx(spread)
    assert (first['baseline'], first['published'], first['source']) == (PLAIN, '78.67', 'paper')


def test_one_run_has_no_spread(tmp_path):
    write_run(tmp_path / 'a', STUDENT, 78)
    write_run(tmp_path / 'b', PLAIN, 75)
    student, plain = cells(results(tmp_path), best=True)
    assert (student['top-1'], plain['top-1'], student['gain']) == ('78.00', '75.00', '+3.00')
    assert student['best epoch'] == '99.00'  # and the last epoch is what counts
    assert 'best epoch' not in cells(results(tmp_path))[0]
    assert 'chosen on the test images' in to_markdown(results(tmp_path), best=True)


@pytest.mark.parametrize('epochs', [1, 239])
def test_unfinished_runs_are_listed_and_never_averaged(tmp_path, epochs):
    write_run(tmp_path / 'a', PLAIN, 75, seed=0)
    write_run(tmp_path / 'b', PLAIN, 10, seed=1, epochs=epochs)
    found = results(tmp_path)
    (row,) = cells(found)
    assert (row['top-1'], row['runs'], row['seeds']) == ('75.00', '1', '0')
    assert f'{epochs} / 240 epochs' in to_markdown(found)
    *_, last = csv.DictReader(io.StringIO(to_csv(found)))
    assert (last['runs'], last['mean'], last['seeds']) == ('0', '', '1')
    alone = results(tmp_path / 'b')
    assert not alone.rows and 'No run finished its schedule.' in to_markdown(alone)
    assert csv.DictReader(io.StringIO(to_csv(alone))).fieldnames == [
        'config', 'runs', 'seeds', 'note'
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('options', 'change'),
    [
        ({'optim_wrapper__optimizer__lr': 0.01}, 'optim_wrapper.optimizer.lr=0.01'),
        ({'train_cfg__max_epochs': 120}, 'train_cfg.max_epochs=120'),
        ({'param_scheduler__milestones': [9, 99]}, 'param_scheduler.milestones=[9,99]'),
        ({'model__teacher_ckpt': 'x/best.pth'}, 'model.teacher_ckpt=x/best'),
        ({'gpus': 4}, 'GPUs=4'),
    ],
)
def test_other_settings_are_rows_of_their_own(tmp_path, options, change):
    write_run(tmp_path / 'a', STUDENT, 78, seed=0)
    write_run(tmp_path / 'b', STUDENT, 70, seed=1, **options)
    first, second = cells(results(tmp_path))
    assert (first['top-1'], first['changed']) == ('78.00', '')
    assert (second['top-1'], second['changed']) == ('70.00', change)


def test_an_archive_gives_the_same_table_and_curves(tmp_path, in_process):
    for seed, value in enumerate((78, 79)):
        write_run(tmp_path / 'runs' / STUDENT / f'seed-{seed}', STUDENT, value, seed)
        write_run(tmp_path / 'runs' / PLAIN / f'seed-{seed}', PLAIN, value - 4, seed)
    for run in find_runs([tmp_path / 'runs'])[0]:
        log = [dict(loss=4.0 - i / 4, epoch=1 + i // 2, iter=i, step=i) for i in range(1, 8)]
        log.insert(3, {'accuracy/top1': 50 + run.seed, 'step': 2})
        (run.session / 'vis_data').mkdir(parents=True, exist_ok=True)
        lines = ''.join(f'{json.dumps(record)}\n' for record in log)
        (run.session / 'vis_data/scalars.json').write_text(lines)
    archive = tmp_path / 'kept'
    status, errors = in_process(ROOT / TOOL, tmp_path / 'runs', '--archive', archive)
    assert status == 0, errors
    assert cells(results(archive)) == cells(results(tmp_path / 'runs'))
    for run in find_runs([tmp_path / 'runs'])[0]:
        (kept,) = find_runs([archive / run.folder.relative_to(tmp_path / 'runs')])[0]
        assert run.curve('loss') and kept.curve('loss') == pytest.approx(run.curve('loss'))
        assert kept.curve('accuracy/top1') == run.curve('accuracy/top1') == {2: 50 + run.seed}
    assert not list(archive.rglob('*.pth'))

    two = [tmp_path / 'runs' / name for name in (STUDENT, PLAIN)]  # whose insides have one layout
    assert in_process(ROOT / TOOL, *two, '--archive', tmp_path / 'of two')[0] == 0
    assert cells(results(tmp_path / 'of two')) == cells(results(archive))


def test_runs_of_an_unknown_config_are_compared_with_each_other(tmp_path):
    for name, lr, top1 in (('a', 0.05, 78), ('b', 0.01, 70)):
        run = Run.of(write_run(tmp_path / name, PLAIN, top1, optim_wrapper__optimizer__lr=lr))
        run.name = 'mine'
        run.write()
    rows = results(tmp_path).rows
    key = 'optim_wrapper.optimizer.lr'
    assert [row.group.changes for row in rows] == [{key: 0.01}, {key: 0.05}]
    assert all(row.published == [None, None] for row in rows)


def test_where_and_how_a_run_worked_is_no_setting(tmp_path):
    write_run(tmp_path / 'a', STUDENT, 78, seed=0)
    write_run(
        tmp_path / 'b', STUDENT, 79, seed=1, train_dataloader__dataset__data_root='/elsewhere',
        val_dataloader__dataset__data_root='/elsewhere', train_dataloader__pin_memory=True,
        model__teacher_ckpt=f'/other/{TEACHER}_seed1/epoch_240.pth', log_level='DEBUG',
    )  # fmt: skip
    (row,) = cells(results(tmp_path))
    assert row['runs'] == '2' and 'changed' not in row


def test_frozen_teacher_is_compared_with_its_own_figure(tmp_path):
    write_run(tmp_path, STUDENT, 77, model__teacher_ckpt=f'd/{FROZEN}/epoch_100.pth')
    found = results(tmp_path)
    (row,) = cells(found)
    assert row['published'] == '77.20 (frozen teacher)'
    assert row['changed'] == f'model.teacher_ckpt={FROZEN}/epoch_100'
    assert 'published' in to_csv(found) and ',77.2,' in to_csv(found)


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        (STUDENT, {'train_cfg__max_epochs': 12}),
        (STUDENT, {'gpus': 4}),
        (STUDENT, {'model__teacher_ckpt': 'mine/epoch_240.pth'}),
        (STUDENT, {'model__teacher_ckpt': f'{TEACHER}/epoch_239.pth'}),
        (STUDENT, {'model__teacher_ckpt': f'{FROZEN}/epoch_3.pth'}),
        (
            STUDENT,
            {
                'model__teacher_ckpt': f'{FROZEN}/epoch_100.pth',
                'optim_wrapper__optimizer__lr': 0.1,
            },
        ),
        (
            'hsakd-offline_resnet56_resnet20_1xb64-240e_cifar100-25pct',
            {'train_dataloader__dataset__fraction': 0.1},
        ),
    ],
)
def test_no_published_figure_beside_another_experiment(tmp_path, name, options):
    epochs = options.get('train_cfg__max_epochs', 240)
    write_run(tmp_path / 'changed', name, 78, epochs=epochs, **options)
    found = results(tmp_path)
    (row,) = cells(found)
    assert row['changed'] and 'published' not in row
    (line,) = csv.DictReader(io.StringIO(to_csv(found)))
    assert (line['published'], line['published_top5'], line['source']) == ('', '', '')
    write_run(tmp_path / 'as_shipped', name, 78)
    assert {bool(row['changed']): row['published'] for row in cells(results(tmp_path))} == {
        True: '',
        False: f'{published_figure(name, "accuracy/top1"):.2f}',
    }


def test_no_published_figure_for_resumed_runs_of_other_settings(tmp_path):
    write_run(
        tmp_path / 'resumed', PLAIN, 50, epochs=100, session='20260101_000000',
        optim_wrapper__optimizer__lr=0.1, optim_wrapper__clip_grad__max_norm=1.0,
    )  # fmt: skip
    write_run(
        tmp_path / 'resumed', PLAIN, 75, first=101, session='20260102_000000'
    )  # fmt: skip
    (row,) = cells(results(tmp_path))
    assert 'optim_wrapper.optimizer.lr (before it was resumed)=0.1' in row['changed']
    assert 'published' not in row


def test_setting_that_was_added_on_resuming_counts_as_changed(tmp_path):
    write_run(
        tmp_path, PLAIN, 50, epochs=9, session='20260101_000000', optim_wrapper__optimizer__lr=None
    )
    write_run(tmp_path, PLAIN, 75, first=10, session='20260102_000000')
    (row,) = cells(results(tmp_path))
    assert row['changed'] == 'optim_wrapper.optimizer.lr (before it was resumed)=None'
    assert 'published' not in row


def changed_by_teacher(tmp_path, first, second) -> list[str]:
    """What is changed, by row, in two students of two teachers."""
    for seed, teacher in enumerate([first, second]):
        write_run(
            tmp_path / 'wt' / f's{seed}', STUDENT, 78 + seed, seed, model__teacher_ckpt=teacher
        )
    return [row.get('changed', '') for row in cells(results(tmp_path / 'wt'))]


@pytest.mark.parametrize('stage', ['epoch_2', 'best_accuracy_top1_epoch_240'])
def test_students_of_one_teacher_at_two_stages_are_not_averaged(tmp_path, stage):
    rows = changed_by_teacher(
        tmp_path, f'/elsewhere/{TEACHER}/epoch_240.pth', f'wt/{TEACHER}/{stage}.pth'
    )
    stage = stage.removesuffix('_epoch_240')
    assert rows == ['', f'model.teacher_ckpt={TEACHER}/{stage}']


@pytest.mark.parametrize(
    ('options', 'change'),
    [
        ({'optim_wrapper__optimizer__lr': 0.1}, 'optim_wrapper.optimizer.lr=0.1'),
        ({'gpus': 2}, 'GPUs=2'),
    ],
)
def test_students_of_teachers_trained_otherwise_are_not_averaged(tmp_path, options, change):
    write_run(tmp_path / 'teachers/1', TEACHER, 80, seed=0)
    write_run(tmp_path / 'teachers/2', TEACHER, 80, seed=0, **options)
    rows = changed_by_teacher(
        tmp_path, f'{tmp_path}/teachers/1/epoch_240.pth', 'teachers/2/epoch_240.pth'
    )
    assert rows == ['', f'model.teacher_ckpt={TEACHER}/epoch_240 ({change})']


def test_teachers_of_a_config_that_is_not_known_are_told_apart(tmp_path):
    for folder, lr in (('1', 0.05), ('2', 0.1), ('3', 0.1)):
        run = Run.of(write_run(tmp_path / folder, TEACHER, 80, optim_wrapper__optimizer__lr=lr))
        run.name = 'mine'
        run.write()
    first, *others = (checkpoint_origin(f'{folder}/epoch_240.pth') for folder in '123')
    assert re.fullmatch(r'mine/epoch_240 \(settings [0-9a-f]{8}\)', first)
    assert others[0] == others[1] != first


def test_each_seed_may_have_a_teacher_of_its_own(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / f'teachers/seed-{seed}', TEACHER, 80, seed=seed)
    assert changed_by_teacher(
        tmp_path, 'teachers/seed-0/epoch_240.pth', 'teachers/seed-1/epoch_240.pth'
    ) == ['']


def test_teacher_at_the_place_of_the_config_but_trained_otherwise(tmp_path):
    write_run(tmp_path / 'work_dirs' / TEACHER, TEACHER, 80, optim_wrapper__optimizer__lr=0.1)
    write_run(tmp_path / 'student', STUDENT, 78)
    (row,) = cells(results(tmp_path / 'student'))
    assert row['changed'].endswith('(optim_wrapper.optimizer.lr=0.1)') and 'published' not in row


def test_teacher_of_a_teacher_trained_otherwise(tmp_path):
    plain = 'wrn-40-2_1xb64-240e_cifar100'
    write_run(tmp_path / 'plain', plain, 75, param_scheduler__gamma=0.5)
    write_run(tmp_path / 'frozen', FROZEN, 75, model__backbone_ckpt='plain/epoch_240.pth')
    write_run(tmp_path / 'student', STUDENT, 77, model__teacher_ckpt='frozen/epoch_100.pth')
    (row,) = cells(results(tmp_path / 'student'))
    inner = f'model.backbone_ckpt={plain}/epoch_240 (param_scheduler.gamma=0.5)'
    assert row['changed'] == f'model.teacher_ckpt={FROZEN}/epoch_100 ({inner})'
    assert 'published' not in row


def test_run_that_starts_from_a_checkpoint_of_its_own_work_dir(tmp_path):
    write_run(tmp_path, PLAIN, 70, session='20260101_000000')
    write_run(tmp_path, PLAIN, 75, session='20260102_000000', load_from='epoch_240.pth')
    changed = {row['changed']: row['top-1'] for row in cells(results(tmp_path))}
    assert changed == {'': '70.00', f'load_from={PLAIN}/epoch_240': '75.00'}


def test_two_folders_of_images_are_two_experiments_and_one_data_set_is_one(tmp_path):
    for seed, folder in enumerate(['a', 'b', 'b']):
        write_run(
            tmp_path / str(seed), PLAIN, 60 + seed, seed,
            train_dataloader__dataset__type='hsakd.ImageFolder',
            train_dataloader__dataset__data_root=f'data/{folder}',
        )  # fmt: skip
    first, second = cells(results(tmp_path))
    assert (first['seeds'], second['seeds']) == ('0', '1, 2')
    assert 'train_dataloader.dataset.data_root=data/a' in first['changed']
    (run, *_), _ = find_runs([tmp_path])
    assert not any('val_dataloader' in key and 'root' in key for key in run.settings)
    root = shipped_settings(IMAGES)['val_dataloader.dataset.data_root']
    assert root == 'data/images/test'


def test_seed_run_twice(tmp_path):
    write_run(tmp_path / 'new', PLAIN, 75, session='20260203_000000')
    write_run(tmp_path / 'old', PLAIN, 70, session='20260102_000000')
    write_run(tmp_path / 'cut', PLAIN, 60, session='20260304_000000', epochs=3)
    found = results(tmp_path)
    (row,) = cells(found)
    assert row['top-1'] == '75.00' and row['runs'] == '1'
    text = to_markdown(found)
    assert re.search(r'old/20260102_000000: seed 0 was run again, and .*new/2026\S+ counts', text)
    assert '3 / 240 epochs' in text


def test_resumed_sessions_are_one_run(tmp_path):
    write_run(tmp_path, PLAIN, 50, epochs=100, session='20260101_000000', curve=True)
    write_run(tmp_path, PLAIN, 75, first=91, session='20260102_000000', curve=True)
    ((run,), left_out) = find_runs([tmp_path])
    assert run.finished and not left_out
    curve = run.curve('accuracy/top1')
    assert list(curve) == list(range(1, 241))
    assert curve[90] == pytest.approx(49.9) and curve[91] == pytest.approx(75 - 1.49)
    assert [row['top-1'] for row in cells(results(tmp_path))] == ['75.00']

    write_run(
        tmp_path, PLAIN, 80, first=241, epochs=250, session='20260103_000000',
        train_cfg__max_epochs=250,
    )  # fmt: skip
    (row,) = cells(results(tmp_path))
    assert row['changed'] == (
        'train_cfg.max_epochs=250, train_cfg.max_epochs (before it was resumed)=240'
    )


def test_training_anew_in_a_used_work_dir_is_another_run(tmp_path):
    write_run(tmp_path, PLAIN, 74, seed=0, session='20260101_000000')
    write_run(tmp_path, PLAIN, 76, seed=1, session='20260102_000000')
    write_run(tmp_path, STUDENT, 79, session='20260103_000000', epochs=3)
    found = results(tmp_path, tmp_path)
    (row,) = cells(found)
    assert row['top-1'].startswith('75.00') and row['runs'] == '2'
    assert [str(run) for run in found.left_out] == [
        f'{STUDENT}, seed 0, 20260103_000000: 3 / 240 epochs'
    ]


def test_runs_of_older_versions_are_listed(tmp_path):
    (tmp_path / 'old/20250101_000000/vis_data').mkdir(parents=True)
    (tmp_path / 'old/20250101_000000/vis_data/scalars.json').touch()
    found = results(tmp_path)
    assert not found.rows and [str(run) for run in found.left_out] == ['old: no run.json']


def test_networks_that_learn_online(tmp_path):
    plain = 'wrn-40-2_1xb64-240e_cifar100'
    write_run(tmp_path / 'a', ONLINE, [82, 80], seed=0)
    write_run(tmp_path / 'b', ONLINE, [84, 81], seed=1)
    write_run(tmp_path / 'c', plain, 76)
    first, second, alone = cells(results(tmp_path))
    assert first['config'] == f'{ONLINE}, network 0' and first['top-1'] == '83.00 ± 1.41'
    assert second['config'] == f'{ONLINE}, network 1' and second['top-1'] == '80.50 ± 0.71'
    assert (first['published'], alone['published']) == ('82.58', '76.45')
    assert (first['gain'], second['gain']) == ('+7.00', '+4.50')
    assert first['top-5'] and not second['top-5']


def test_mixed_networks_online_have_baselines_of_their_own(tmp_path):
    write_run(tmp_path / 'a', 'hsakd-online_wrn-40-2_wrn-16-2_1xb64-240e_cifar100', [82, 77])
    write_run(tmp_path / 'b', 'wrn-40-2_1xb64-240e_cifar100', 76)
    write_run(tmp_path / 'c', PLAIN, 73)
    assert [row['gain'] for row in cells(results(tmp_path))] == ['+6.00', '+4.00', '', '']


@pytest.mark.parametrize(
    'options', [{'train_cfg__max_epochs': 200}, {'model__backbone__widen_factor': 4}]
)
def test_no_gain_over_a_baseline_trained_otherwise(tmp_path, options):
    write_run(tmp_path / 'a', STUDENT, 78)
    write_run(tmp_path / 'b', PLAIN, 73, **options)
    found = results(tmp_path)
    assert 'gain' not in cells(found)[0]
    (note,) = found.notes
    assert note.startswith(f'no gain of {STUDENT}: ')
    assert f'({next(iter(options)).replace("__", ".")})' in note


def test_iterations_instead_of_epochs(tmp_path):
    write_run(tmp_path, IMAGES, 60, epochs=250)
    (run,), _ = find_runs([tmp_path])
    assert not run.finished and run.progress == '250 / 300 iterations'
    assert run.checkpoint == tmp_path / 'iter_300.pth'
    write_run(tmp_path, IMAGES, 61, first=251, epochs=300, session='20270101_000000')
    (run,), _ = find_runs([tmp_path])
    assert run.final('accuracy/top1') == 61


def test_gain_is_taken_seed_by_seed_where_it_can_be():
    assert gain({0: 3, 1: 5}, {1: 4, 0: 1}) == (1.5, pytest.approx(0.5**0.5))
    assert gain({0: 3, 1: 5}, {1: 4, 0: 1, 2: 9}) == (1.5, pytest.approx(0.5**0.5))  # not of 2
    assert gain({0: 3, 1: 5}, {2: 4, 3: 2}) == (1.0, 2.0)
    assert gain({0: 3}, {0: 1}) == gain({0: 3}, {1: 1}) == (2.0, None)


@pytest.mark.parametrize(
    ('path', 'origin'),
    [
        (f'work_dirs/{PLAIN}/epoch_240.pth', f'{PLAIN}/epoch_240'),
        (f'/a/{PLAIN}_seed1/x/epoch_240.pth', f'{PLAIN}/epoch_240'),
        (f'/a/{PLAIN}/seed-1/iter_300.pth', f'{PLAIN}/iter_300'),
        (f'/a/{PLAIN}/best_accuracy_top1_epoch_7.pth', f'{PLAIN}/best_accuracy_top1'),
        (f'models/{PLAIN}-0a1b2c3d.pth', PLAIN),
        ('/a/resnet56/seed1.pth', 'resnet56/seed#'),
        ('checkpoints/resnet34-b627a593.pth', 'resnet34-b627a593'),
        ('torchvision://resnet34', 'torchvision://resnet34'),
    ],
)
def test_origin_of_a_checkpoint_by_its_path(path, origin):
    assert checkpoint_origin(path) == origin


@pytest.mark.parametrize(
    ('break_it', 'options', 'words'),
    [
        (lambda d: None, ['gone'], "'gone': "),
        (lambda d: (d / 'empty').mkdir(), ['empty'], "'empty': "),
        (lambda d: None, ['run', '--metric', 'mAP'], '--metric: '),
        (lambda d: (d / 'o').write_text('mine'), ['run', '--out', 'o'], "'o': "),
        (lambda d: (d / 'run/run.json').write_text('{"name": 1}'), ['run'], 'run.json'),
        (lambda d: (d / 'run/run.json').write_text('{"na'), ['run'], 'run.json'),
    ],
)
def test_bad_input_is_named(tmp_path, in_process, break_it, options, words):
    write_run(tmp_path / 'run', PLAIN, 75)
    break_it(tmp_path)
    status, error = in_process(TOOL, *options)
    assert status == 1
    assert words in error and 'Traceback' not in error


def test_files_of_the_tool(tmp_path, in_process):
    write_run(tmp_path / 'run', PLAIN, 75)
    options = ('run', '--out', 'o.md', '--csv', 'o.csv')
    assert in_process(TOOL, *options) == (0, '')
    assert PLAIN in (tmp_path / 'o.md').read_text() and PLAIN in (tmp_path / 'o.csv').read_text()
    (tmp_path / 'o.md').write_text('older')
    status, error = in_process(TOOL, *options)
    assert status == 1 and '--force' in error
    assert in_process(TOOL, *options, '--force')[0] == 0


def test_a_real_training_and_its_test(tmp_path, in_process, capfd):
    name = 'wrn-10-1_1xb64-80e_digits'
    config, work = f'configs/baseline/{name}.py', ('--work-dir', tmp_path / 'run')
    options = ('--cfg-options', 'train_cfg.max_epochs=2', 'train_cfg.val_interval=1')
    status, error = in_process('tools/train.py', ROOT / config, *work, *options)
    assert status == 0, error
    checkpoint = tmp_path / 'run' / 'epoch_2.pth'
    status, error = in_process('tools/test.py', ROOT / config, checkpoint, *work)
    assert status == 0, error
    ((run,), left_out) = find_runs([tmp_path])
    top1 = [r['accuracy/top1'] for r in read_scalars(next(tmp_path.rglob('scalars.json')))[1::2]]
    assert run.finished and not left_out
    assert run.final('accuracy/top1') == pytest.approx(top1[-1])
    assert run.highest('accuracy/top1') == pytest.approx(max(top1))
    assert list(run.curve('accuracy/top1')) == [1, 2]
    assert run.settings == shipped_settings(name) | {'train_cfg.max_epochs': 2}
    assert 'tools/train.py' in run.command and run.versions['torch']
    describe = ['git', '-C', ROOT, 'describe', '--always', '--dirty', '--exclude=*']
    commit = subprocess.run(describe, capture_output=True, text=True).stdout.strip()
    assert run.versions['hsakd'] == __version__ + f' ({commit})' * bool(commit)


def test_record_of_a_training_that_was_killed_and_went_on(tmp_path, in_process):
    config = ROOT / 'configs/baseline/wrn-10-1_1xb64-80e_digits.py'
    options = ('--work-dir', tmp_path, '--cfg-options', 'train_cfg.val_interval=1')
    failing = 'custom_hooks.0.type=Nothing'
    for more, finished in ((['train_cfg.max_epochs=1'], True), ([failing], True)):
        in_process('tools/train.py', config, *options, *more)
        assert Run.of(tmp_path).finished == finished
    arguments = (*options[:2], '--resume', *options[2:], 'train_cfg.max_epochs=2')
    status, error = in_process('tools/train.py', config, *arguments)
    assert status == 0, error
    run = Run.of(tmp_path)
    assert run.finished and run.done == 2 and len(run.sessions) == 2
    assert run.settings['train_cfg.max_epochs (before it was resumed)'] == 1


def test_published_figures_are_those_of_the_papers_table():
    text = (ROOT / 'docs/results.md').read_text()
    names = {'VGG-13': 'vgg13', 'ResNet-50': 'resnet50', 'MobileNetV2': 'mobilenet-v2'}
    names |= {f'ShuffleNetV{v}': f'shufflenet-v{v}' for v in (1, 2)}
    rows = re.findall(
        r'^\| (\S+) → (\S+) \| (\S+) / (\S+) \| (\S+) \| (\S+) \| (\S+) \|', text, re.M
    )
    assert len(rows) == 8
    for teacher, student, *figures in rows:
        # ResNet-56 is resnet56, WRN-40-2 is wrn-40-2
        teacher, student = (
            names.get(n, re.sub('^resnet-', 'resnet', n.lower())) for n in (teacher, student)
        )
        plain, joint, alone, frozen_student, joint_student = map(float, figures)
        end = '1xb64-240e_cifar100'
        expected = {
            f'{teacher}_{end}': plain,
            f'hsakd-teacher_{teacher}_{end}': joint,
            f'hsakd-teacher-frozen_{teacher}_1xb64-100e_cifar100': plain,
            f'{student}_{end}': alone,
            f'hsakd-offline_{teacher}_{student}_{end}': joint_student,
        }
        for name, figure in expected.items():
            assert published_figure(name, 'accuracy/top1') == figure, name
        pair = f'hsakd-offline_{teacher}_{student}_{end}'
        assert published_figure(pair, 'accuracy/top1', frozen_teacher=True) == frozen_student
    slip = [r['source'] for r in published_figures().values() if r['value'] == '79.34']
    assert len(slip) == 2 and all('76.34' in source for source in slip)


def test_published_figures_are_of_configs():
    figures = published_figures()
    assert len(figures) == 189 and all(find_configs(name) for name, _, _ in figures)
    assert all(40 < float(row['value']) < 100 for row in figures.values())
    imagenet = 'hsakd-offline_resnet34_resnet18_8xb32-100e_imagenet'
    top5 = [published_figure(imagenet, 'accuracy/top5', frozen) for frozen in (False, True)]
    assert top5 == [91.00, 90.85]
    assert published_figure(imagenet, 'accuracy/top5x') is None


def test_how_often_a_run_is_validated_is_no_setting_but_how_long_it_trains_is(tmp_path):
    def settings(**train_cfg):
        return comparable_settings(dict(train_cfg=dict(by_epoch=True, **train_cfg)))

    often, rarely = (settings(max_epochs=24, val_interval=every) for every in (1, 24))
    assert often == rarely != settings(max_epochs=12, val_interval=1)
    write_run(tmp_path / '0', PLAIN, 75)
    older = write_run(tmp_path / '1', PLAIN, 75, seed=1) / 'run.json'
    record = json.loads(older.read_text())
    record['settings']['train_cfg.val_interval'] = 24
    older.write_text(json.dumps(record))
    assert '75.00 ± 0.00' in to_markdown(results(tmp_path))


@pytest.mark.parametrize('kind, told_apart', [('CIFAR100', False), ('ImageFolder', True)])
def test_data_root_of_a_few_shot_subset_counts_as_that_of_what_it_wraps(kind, told_apart):
    wrapped = dict(type=kind, data_root='here')
    dataset = dict(type='FewShotSubset', fraction=0.25, data_root='there', dataset=wrapped)
    settings = comparable_settings(dict(train_dataloader=dict(dataset=dataset)))
    assert ('train_dataloader.dataset.data_root' in settings) == told_apart
    assert ('train_dataloader.dataset.dataset.data_root' in settings) == told_apart


@pytest.mark.parametrize(
    'key, value',
    [
        ('name', 1), ('settings', []), ('settings', None), ('seed', '0'), ('seed', None),
        ('processes', 'two'), ('unit', 'hour'), ('length', [240]), ('done', None),
        ('finished', 'yes'), ('metrics', {'a': 'high'}), ('best', {'a': []}),
        ('best', 5), ('sessions', []), ('sessions', [3]), ('sessions', 'abc'), ('seconds', 'long'),
        ('command', None), ('versions', {'torch': 2}), ('other', 1),
    ],
)  # fmt: skip
def test_a_damaged_record_is_named_with_its_key(tmp_path, in_process, key, value):
    file = write_run(tmp_path / 'run', PLAIN, 73) / 'run.json'
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    for tool in (TOOL, 'tools/analysis_tools/report.py'):
        status, error = in_process(tool, 'run')
        assert status == 1 and 'Traceback' not in error
        assert 'run/run.json' in error and key in error


def test_a_metric_that_is_not_a_number_once_spoils_no_best(tmp_path):
    write_run(tmp_path, PLAIN, math.nan)  # after 99 in the middle
    (run,), _ = find_runs([tmp_path])
    assert run.best['accuracy/top1'] == 99 and math.isnan(run.final('accuracy/top1'))
    write_run(tmp_path / 'never', PLAIN, math.nan, epochs=240, first=130)
    (run,), _ = find_runs([tmp_path / 'never'])
    assert math.isnan(run.highest('accuracy/top1'))
    assert 'nan' in to_markdown(results(tmp_path / 'never'), best=True)

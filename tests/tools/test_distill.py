"""From a config to a published student in one command."""

import dataclasses
import re
import shutil

import pytest

from hsakd.results.runs import Run
from tests.conftest import ROOT, run_tool
from tests.tools.conftest import run_with_others
from tests.tools.test_detection import coco_config

TOOL = 'tools/distill.py'
STUDENT = 'hsakd-offline_wrn-16-2_wrn-10-1_1xb64-80e_digits'
TEACHER = 'hsakd-teacher_wrn-16-2_1xb64-80e_digits'
BASELINE = 'wrn-10-1_1xb64-80e_digits'
OPTIONS = [
    '--cfg-options',
    'train_cfg.max_epochs=1',
    'train_cfg.val_interval=1',
    f'model.teacher_ckpt=work_dirs/{TEACHER}/epoch_1.pth',
]


def distill(folder, *args, config=STUDENT):
    kind = 'baseline' if config == BASELINE else 'hsakd'
    return run_tool('tools/distill.py', ROOT / f'configs/{kind}/{config}.py', *args, cwd=folder)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('distill')
    output, _ = run_with_others(folder, TOOL, ROOT / f'configs/hsakd/{STUDENT}.py', *OPTIONS)
    (folder / 'output.txt').write_text(output)
    return folder


def test_trains_what_is_needed_then_the_student_and_its_baseline(folder):
    for name in (TEACHER, STUDENT, BASELINE):
        assert (folder / f'work_dirs/{name}/epoch_1.pth').is_file()
    output = (folder / 'output.txt').read_text()
    names = enumerate((TEACHER, STUDENT, BASELINE), 1)
    positions = [output.index(f'[{i}/3] {name}:') for i, name in names]
    assert positions == sorted(positions)


def test_publishes_the_student_and_shows_a_table(folder):
    published = list((folder / 'models').glob(f'{STUDENT}-????????.pth'))
    assert len(published) == 1
    table = (folder / 'output.txt').read_text().split('predict.py')[-1]
    assert all(name in table for name in (TEACHER, STUDENT, BASELINE))


@pytest.fixture
def copy(folder, tmp_path):
    shutil.copytree(folder / 'work_dirs', tmp_path / 'work_dirs')
    return tmp_path


def test_what_is_done_is_skipped_and_what_was_under_way_goes_on(copy):
    (copy / f'work_dirs/{STUDENT}/epoch_1.pth').unlink()  # as if it had been interrupted
    shutil.rmtree(copy / f'work_dirs/{BASELINE}')
    output = distill(copy, '--dry-run', *OPTIONS).stdout
    teacher, student, baseline = output.splitlines()
    assert f'{TEACHER}: done' in teacher
    assert '--resume' in student and 'model.teacher_ckpt' in student
    assert '--resume' not in baseline and 'model.teacher_ckpt' not in baseline
    assert not (copy / f'work_dirs/{BASELINE}').exists()


@pytest.mark.slow
def test_a_run_interrupted_before_its_last_validation_is_validated(copy):
    before = Run.of(copy / f'work_dirs/{STUDENT}')
    unfinished = dataclasses.replace(before, finished=False, done=0, validated=0, metrics={})
    unfinished.write()
    done = distill(copy, *OPTIONS)
    assert done.returncode == 0, done.stderr
    again = Run.of(before.folder)
    assert len(again.sessions) == 2 and again.finished and again.validated == 1
    for name in ('accuracy/top1', 'branch_2/class_top1', 'branch_3/joint_top1'):
        assert again.metrics[name] == pytest.approx(before.metrics[name])
    assert f'{again.final("accuracy/top1"):.2f}' in done.stdout.split('predict.py')[-1]


def test_other_settings_than_those_of_what_is_there_are_refused(copy):
    before = sorted(copy.rglob('*'))
    done = distill(copy, *OPTIONS, 'model.kd_loss.temperature=9', 'optim_wrapper.optimizer.lr=0.5')
    assert done.returncode == 1
    assert 'optim_wrapper.optimizer.lr 0.05 and not 0.5' in done.stderr
    assert sorted(copy.rglob('*')) == before


def test_a_teacher_that_is_named_is_taken_as_it_is(copy):
    teacher = copy / f'elsewhere/{TEACHER}'
    teacher.parent.mkdir()
    (copy / f'work_dirs/{TEACHER}').rename(teacher)
    options = [*OPTIONS[:3], f'model.teacher_ckpt={teacher}/epoch_1.pth']
    for more, expected in (
        ([], [TEACHER, STUDENT, BASELINE]),
        (['optim_wrapper.optimizer.lr=0.1'], [STUDENT, BASELINE]),  # trained with another
    ):
        output = distill(copy, '--dry-run', '--seeds', 0, *options, *more).stdout
        names = [line.split()[1].rstrip(':,') for line in output.splitlines()]
        assert names == expected


def test_needs_are_followed_to_the_end(tmp_path):
    frozen = 'hsakd-teacher-frozen_resnet56_1xb64-100e_cifar100'
    student = 'hsakd-offline_resnet56_resnet20_1xb64-240e_cifar100'
    output = distill(
        tmp_path, '--dry-run', '--seeds', 3, 4, '--cfg-options',
        f'model.teacher_ckpt=work_dirs/{frozen}/epoch_100.pth', config=student,
    ).stdout  # fmt: skip
    names = [line.split()[1].rstrip(':,') for line in output.splitlines()]
    plain = ['resnet56_1xb64-240e_cifar100', 'resnet20_1xb64-240e_cifar100']
    assert names == [plain[0], frozen, student, plain[1], student, plain[1]]
    assert 'randomness.seed=4' in output and f'{student}/seed-4' in output


def test_any_checkpoint_of_a_config_is_followed(tmp_path):
    folder = tmp_path / 'configs/mine'
    folder.mkdir(parents=True)

    def write(name, base, *lines):
        lines = [f"_base_ = ['{ROOT}/configs/{base}.py']", *lines]
        (folder / f'{name}.py').write_text('\n'.join(lines))

    first, second = 'first_1xb64-80e_digits', 'second_1xb64-80e_digits'
    for name in (first, second, TEACHER):
        write(name, f'hsakd/{TEACHER}')
    write(BASELINE, f'baseline/{BASELINE}')
    config = folder / 'new_wrn-16-2_wrn-10-1_1xb64-80e_digits.py'
    write(
        config.stem,
        f'hsakd/{STUDENT}',
        f"model = dict(student=dict(start_ckpt='work_dirs/{first}/epoch_80.pth'))",
        f"load_from = 'work_dirs/{second}/epoch_80.pth'",
    )
    done = run_tool('tools/distill.py', config, '--dry-run', '--work-dirs', 'w', cwd=tmp_path)
    names = [line.split()[1].rstrip(':,') for line in done.stdout.splitlines()]
    needed = [first, TEACHER, second]
    assert sorted(names[:3]) == sorted(needed) and names[3:] == [config.stem, BASELINE], done.stderr
    student = done.stdout.splitlines()[3]
    assert all(f'=w/{name}/epoch_80.pth' in student for name in needed)


def test_networks_that_teach_each_other_have_a_baseline_each(tmp_path):
    online = 'hsakd-online_wrn-40-2_wrn-16-2_1xb64-240e_cifar100'
    output = distill(tmp_path, '--dry-run', config=online).stdout
    names = [line.split()[1].rstrip(':,') for line in output.splitlines()]
    assert names == [online, 'wrn-40-2_1xb64-240e_cifar100', 'wrn-16-2_1xb64-240e_cifar100']


@pytest.mark.parametrize(
    'option, words',
    [
        ('model.teacher_ckpt=nowhere/x.pth', "'nowhere/x.pth'.*nowhere.py.*0 configs"),
        (f'model.teacher_ckpt=a/{TEACHER}/epoch_9.pth', 'epoch_80.pth, .*got epoch_9.pth'),
        ('rubbish', 'KEY=VALUE'),
        ('model.teacher_ckpt=3', 'model.teacher_ckpt: .*got 3'),
        ('work_dir=x', '--cfg-options work_dir'),
        (f'model.teacher_ckpt=work_dirs/{STUDENT}/epoch_80.pth', 'teacher_ckpt.*circle'),
    ],
)
def test_what_cannot_be_trained_is_named(tmp_path, in_process, option, words):
    config = ROOT / f'configs/hsakd/{STUDENT}.py'
    status, error = in_process('tools/distill.py', config, '--cfg-options', option)
    assert status == 1
    assert re.search(words, error), error


def test_a_failing_training_ends_it(tmp_path):
    done = distill(tmp_path, '--cfg-options', 'optim_wrapper.optimizer.type=Nothing')
    assert done.returncode == 1
    assert 'optim_wrapper.optimizer.type' in done.stderr and "'Nothing'" in done.stderr
    assert f'{TEACHER} stopped with status 1' in done.stderr
    assert not (tmp_path / f'work_dirs/{STUDENT}').exists()


def test_a_detector_is_trained_and_not_published(tmp_path):
    splits = {'train2017': 2, 'val2017': 2}
    config = coco_config(tmp_path / 'with space', splits)
    refused = run_tool(TOOL, config, '--onnx', cwd=tmp_path)
    assert refused.returncode == 1 and 'a classifier with --onnx, got a detector' in refused.stderr
    options = ('--cfg-options', 'train_cfg.max_epochs=1')
    output, commands = run_with_others(tmp_path, TOOL, config, *options)
    assert [command[0] for command in commands] == ['train.py', 'collect_results.py']
    assert 'coco/bbox_mAP' in output
    assert output.splitlines()[-1].endswith('/epoch_1.pth')
    assert not (tmp_path / 'models').exists()

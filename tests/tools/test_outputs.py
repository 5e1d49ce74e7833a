"""What tools write and print, with odd values, names and options, as a user runs them."""

import contextlib
import json
import os
import pickle
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from mmengine.config import Config
from PIL import Image

from hsakd.registry import MODELS
from tests.conftest import ROOT, run_tool, write_image_folder

IMAGES = ROOT / 'configs/baseline/resnet8_1xb32-300i_images32.py'
#: Metrics whose results are tensors, lists and arrays.
EVALUATOR = [
    dict(type='mmpretrain.Accuracy', topk=(1,)),
    dict(type='mmpretrain.ConfusionMatrix'),
    dict(type='mmpretrain.SingleLabelMetric', average=None),
]


@pytest.fixture(scope='module')
def case(tmp_path_factory):
    """A folder with a space in its name, images of the same names in each class, a network."""
    folder = tmp_path_factory.mktemp('my work')
    write_image_folder(folder / 'train', ('ant', 'bee', 'cat'), per_class=8)
    write_image_folder(folder / 'test', ('ant', 'bee', 'cat'), per_class=3)
    config = Config.fromfile(IMAGES)
    config.model.head.num_classes = 3
    config.train_cfg.update(max_iters=2, val_interval=2)
    config.train_dataloader.update(batch_size=8, num_workers=0)
    config.val_dataloader.num_workers = config.test_dataloader.num_workers = 0
    config.train_dataloader.dataset.data_root = str(folder / 'train')
    for part in (config.val_dataloader, config.test_dataloader):
        part.dataset.data_root = str(folder / 'test')
    config.val_evaluator = config.test_evaluator = EVALUATOR
    config.dump(folder / 'config.py')
    torch.save(dict(state_dict=MODELS.build(config.model).state_dict()), folder / 'net.pth')
    return folder


def evaluate(case, folder, *args, run=run_tool):
    command = ('tools/test.py', case / 'config.py', case / 'net.pth', '--work-dir', folder / 'work')
    return run(*command, *args)


def test_every_image_has_a_picture(case, tmp_path):
    pictures = tmp_path / 'new folder' / 'pictures'
    result = evaluate(case, tmp_path, '--show-dir', pictures)
    assert result.returncode == 0, result.stderr
    names = sorted(str(path.relative_to(pictures)) for path in pictures.rglob('*.png'))
    assert names == [f'{c}/{i}.png.png' for c in ('ant', 'bee', 'cat') for i in range(3)]
    # Each class has a color of its own, red that of the first: channels are not swapped.
    with Image.open(pictures / 'ant' / '0.png.png') as picture:
        red, _, blue = picture.convert('RGB').resize((1, 1)).getpixel((0, 0))
    assert red > blue + 50


@pytest.mark.parametrize('suffix, load', [('json', json.load), ('yaml', yaml.safe_load)])
def test_metrics_of_any_kind_are_written_and_shown(case, tmp_path, suffix, load):
    out = tmp_path / 'new folder' / f'metrics.{suffix}'
    result = evaluate(case, tmp_path, '--out', out, '--out-item', 'metrics')
    assert result.returncode == 0, result.stderr
    with open(out) as file:
        metrics = load(file)
    assert sum(map(sum, metrics['confusion_matrix/result'])) == 9
    assert len(metrics['single-label/recall_classwise']) == 3
    assert 'accuracy/top1: ' in result.stdout
    assert 'confusion_matrix/result' in result.stdout


def test_predictions_go_to_a_new_folder(case, tmp_path):
    for name in ('p.pth', 'p.pkl'):
        out = tmp_path / 'new' / 'folder' / name
        assert evaluate(case, tmp_path, '--out', out).returncode == 0
        content = torch.load(out) if name == 'p.pth' else pickle.loads(out.read_bytes())
        assert len(content) == 9


@pytest.mark.parametrize('option', ['--out', '--show-dir'])
def test_a_folder_that_cannot_be_written_to_is_found_before_the_test(
    case, tmp_path, in_process, option
):
    status, error = evaluate(case, tmp_path, option, '/proc/new/p.pth', run=in_process)
    assert status == 1 and error.startswith(f'error: {option}=') and 'Traceback' not in error
    assert not list(tmp_path.rglob('*.log'))


def test_a_run_says_what_it_does_and_what_came_out(case, tmp_path):
    """Into a pipe: a few lines, and those of mmengine in the log file alone."""
    config = Config.fromfile(case / 'config.py')
    config.train_cfg.update(max_iters=4)
    config.custom_hooks = [dict(type='ProgressHook', interval=0)]
    config.dump(tmp_path / 'config.py')
    work_dir = tmp_path / 'w'
    result = run_tool('tools/train.py', tmp_path / 'config.py', '--work-dir', work_dir)
    assert result.returncode == 0, result.stderr
    shown, log = result.stdout, next(work_dir.glob('*/*.log')).read_text()
    assert len([line for line in shown.splitlines() if 'Iter(val)' in line]) == 2
    assert 'accuracy/top1: ' in shown and '━' not in shown
    for line in ('Config:', 'System environment', 'Exp name', 'Iter(train)', 'Saving checkpoint'):
        assert line in log and line not in shown
    assert re.search(r'training, iteration 3/4, [\d,]+ images/s, ETA 0:00:0\d, loss [\d.]+', shown)
    assert 'CIFARResNet, 77,' in shown and '24 to train on, 9 to validate on, of 3' in shown
    assert '4 batches of 8 images' in shown and 'exact' in shown
    record = json.loads((work_dir / 'run.json').read_text())
    assert f'accuracy/top1  {record["metrics"]["accuracy/top1"]:.4g}, at best ' in shown
    # What to do next can be done as it stands there.
    (command,) = [line.split('python ')[1] for line in shown.splitlines() if ' test ' in line]
    result = run_tool(*shlex.split(command))
    assert result.returncode == 0 and 'accuracy/top1: ' in result.stdout, result.stderr


def on_a_screen(*command, until=None):
    """Run a tool on a terminal: status, and what it writes; Ctrl-C once ``until`` is there."""
    screen, other = os.openpty()
    process = subprocess.Popen(
        [sys.executable, ROOT / command[0], *command[1:]],
        stdin=other,
        stdout=other,
        stderr=other,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'TERM': 'xterm', 'COLUMNS': '120'},
    )
    os.close(other)
    shown = b''
    with contextlib.suppress(OSError):  # at its end
        while part := os.read(screen, 4096):
            shown += part
            if until and until in shown:
                process.send_signal(signal.SIGINT)
                until = None
    os.close(screen)
    return process.wait(), shown.decode()


def test_a_line_runs_along_on_a_terminal(case, tmp_path):
    options = ('--cfg-options', 'train_cfg.max_iters=40', 'train_cfg.val_interval=40')
    command = ('tools/train.py', case / 'config.py', '--work-dir', tmp_path / 'w', *options)
    status, shown = on_a_screen(*command)
    assert status == 0, shown
    assert '━' in shown and 'validating' in shown and 'images/s  ETA 0:00' in shown
    assert 'accuracy/top1' in shown and 'confusion_matrix/result' in shown
    assert 'Iter(train)' not in shown and ', iteration' not in shown
    assert '━' not in shown[shown.index('trained config in') :]  # above what came out
    assert '\x1b[?25l' not in shown  # the cursor stays


def test_ctrl_c_leaves_a_clean_terminal(case, tmp_path):
    options = ('--cfg-options', 'train_cfg.max_iters=100000')
    command = ('tools/train.py', case / 'config.py', '--work-dir', tmp_path / 'w', *options)
    status, shown = on_a_screen(*command, until=b'images/s')
    assert status == 130, shown
    last = shown.splitlines()[-1]
    assert 'stopped by SIGINT after iteration' in last and '━' not in last
    assert shown.index('stopping: saving') < shown.rindex('━') < shown.index('stopped by')


@pytest.mark.parametrize('option', ['persistent_workers=True', 'prefetch_factor=4', 'timeout=9'])
@pytest.mark.parametrize('key', ['train', 'val', 'test'])
def test_what_is_of_workers_needs_none(case, tmp_path, in_process, key, option):
    options = ('--cfg-options', f'{key}_dataloader.{option}', f'{key}_dataloader.num_workers=0')
    if key == 'test':
        status, error = evaluate(case, tmp_path, *options, run=in_process)
    else:
        command = ('tools/train.py', case / 'config.py', '--work-dir', tmp_path / 'w')
        status, error = in_process(*command, *options)
    assert status == 0, error


def test_more_workers_than_cores_are_no_warning(case, tmp_path):
    workers = [f'{key}_dataloader.num_workers=5' for key in ('train', 'val')]
    command = ('tools/train.py', case / 'config.py', '--work-dir', tmp_path, '--cfg-options')
    result = run_tool(*command, *workers, 'train_dataloader.persistent_workers=True')
    assert result.returncode == 0, result.stderr
    assert 'worker processes' not in result.stdout + result.stderr


def parsed(*values):
    from hsakd.utils.cli import runner_parser

    args = runner_parser('').parse_args(['config.py', '--cfg-options', *values])
    return args.cfg_options


@pytest.mark.parametrize(
    'value, expected',
    [
        ('/x/mein Bild', '/x/mein Bild'),
        ('/x/mein  Bild ( 1) /y z', '/x/mein  Bild ( 1) /y z'),
        ("'/x/a b'", '/x/a b'),
        (' 3 ', 3),
        ('[1, 2]', [1, 2]),
        ('1, 2', [1, 2]),
        ('( 1, )', (1,)),
        ("['my cat', 'dog', 1e-3, None, true]", ['my cat', 'dog', 1e-3, None, True]),
        ('[( 1 , 2 ), [a b, c], d  e]', [(1, 2), ['a b', 'c'], 'd  e']),
        ('a=b = c', 'a=b = c'),
        ('/x/a (b)/c', '/x/a (b)/c'),
        ('[/x/a (b)/c, d]', ['/x/a (b)/c', 'd']),
    ],
)
def test_spaces_inside_of_values_stay(value, expected):
    assert parsed(f'key={value}') == {'key': expected}


@pytest.mark.parametrize('value', ['key', 'key=[1,2', 'key=/x/(a,b', 'key=dict(a=[1,2])'])
def test_an_option_that_cannot_be_parsed_is_named(value, capsys):
    with pytest.raises(SystemExit):
        parsed('a=1', value)
    error = capsys.readouterr().err
    assert 'argument --cfg-options: expected KEY=VALUE' in error and value in error


@pytest.mark.parametrize(
    'tool, args',
    [
        ('tools/distill.py', ()),
        ('tools/train.py', ()),
        ('tools/test.py', ('net.pth',)),
        ('tools/analysis_tools/plot_joint_distribution.py', ('net.pth', 'train', '--out', 'o.png')),
        ('tools/benchmarks/data.py', None),
    ],
)
def test_every_tool_keeps_spaces(case, tmp_path, in_process, monkeypatch, tool, args):
    monkeypatch.chdir(case)
    config = () if args is None else ('config.py', *args)
    status, error = in_process(tool, *config, '--cfg-options', 'model.type=No Such Type')
    assert status and 'No Such Type' in error and 'Traceback' not in error


def train(case, folder, *options, args=()):
    command = ('tools/train.py', case / 'config.py', '--work-dir', folder / 'w', *args)
    return (*command, '--cfg-options', *options)


def test_one_class_is_no_classification(case, tmp_path, in_process):
    write_image_folder(tmp_path / 'one', ('ant',))
    data = [f'{key}_dataloader.dataset.data_root={tmp_path / "one"}' for key in ('train', 'val')]
    for number in (1, 3):  # the advice is not to lower it
        command = train(case, tmp_path, f'model.head.num_classes={number}', *data)
        status, error = in_process(*command)
        assert status == 1 and 'train_dataloader.dataset: expected 2 or more' in error
    status, error = in_process(*train(case, tmp_path, 'model.head.num_classes=1'))
    assert status == 1 and 'num_classes' in error


@pytest.mark.parametrize(
    'hook, words',
    [
        (dict(type='EMAHook', ema_type='ExponentialMovingAvg'), 'ExponentialMovingAvg'),
        (dict(type='EMAHook', momentum=5), 'momentum'),
        (dict(type='EMAHook', update_intervall=1), 'update_intervall'),
        (dict(type='EMAHook', begin_epoch=-1), 'begin_epoch'),
        (dict(type='mmpretrain.EMAHook', ema_type='Nothing'), 'Nothing'),
        (dict(type='NoSuchHook'), 'NoSuchHook'),
    ],
)
def test_wrong_arguments_of_a_hook_are_no_traceback(case, tmp_path, in_process, hook, words):
    config = Config.fromfile(case / 'config.py')
    config.custom_hooks = [hook]
    config.dump(tmp_path / 'config.py')
    status, error = in_process('tools/train.py', tmp_path / 'config.py', '--work-dir', tmp_path)
    assert status == 1 and error.startswith('error: ') and 'Traceback' not in error
    assert words in error and ('Hook' in error or 'custom_hooks' in error)
    assert not list(tmp_path.glob('*.pth'))


def test_fast_says_that_it_compiles_and_how_long_it_took(case, tmp_path, in_process, monkeypatch):
    compiled = torch.compile

    def compile_slowly(graph, inputs):
        time.sleep(1)
        return graph

    slow = dict(dynamic=False, backend=compile_slowly)
    monkeypatch.setattr(torch, 'compile', lambda run, **kwargs: compiled(run, **slow))
    assert in_process(*train(case, tmp_path, 'train_cfg.max_iters=2', args=('--fast',)))[0] == 0
    log = next(tmp_path.rglob('*.log')).read_text()
    begins = log.index('compiling CIFARResNet for batches of 8 images ...')
    ends = log.index('compiling CIFARResNet for batches of 8 images took ')
    assert begins < ends < log.index('Iter(val)')


@pytest.mark.parametrize(
    'key, value, words',
    [
        ('default_hooks.checkpoint.save_best', 'accuracy/top9', 'accuracy/top1'),
        ('default_hooks.checkpoint.save_best', 'confusion_matrix/result', 'accuracy/top1'),
        ('param_scheduler', [dict(type='ReduceOnPlateauLR', monitor='no/such')], 'no/such'),
        (
            'param_scheduler',
            [dict(type='ReduceOnPlateauLR', monitor='confusion_matrix/result')],
            'Scheduler',
        ),
        (
            'custom_hooks',
            [dict(type='EarlyStoppingHook', monitor='confusion_matrix/result', rule='greater')],
            'EarlyStoppingHook',
        ),
    ],
)
def test_a_metric_that_is_none_is_no_traceback(case, tmp_path, in_process, key, value, words):
    config = Config.fromfile(case / 'config.py')
    config.merge_from_dict({key: None, 'default_hooks.checkpoint.rule': 'greater'})
    config.merge_from_dict({key: value})
    config.dump(tmp_path / 'config.py')
    status, error = in_process('tools/train.py', tmp_path / 'config.py', '--work-dir', tmp_path)
    assert status == 1 and error.startswith('error: ') and 'Traceback' not in error
    assert words in error


@pytest.mark.parametrize(
    'option, args, words',
    [
        ('test_evaluator.2.average=nonsense', (), 'average'),
        ('test_evaluator.2.thrs=[a]', (), 'test_evaluator'),
        ('visualizer.type=Visualizer', ('--show-dir', 'never'), 'visualizer.type'),
    ],
)
def test_wrong_arguments_of_metrics_and_pictures(case, tmp_path, option, args, words):
    result = evaluate(case, tmp_path, *args, '--cfg-options', option)
    error = result.stderr.splitlines()[-1]
    assert result.returncode == 1 and error.startswith('error: ') and words in error


@pytest.mark.parametrize(
    'command, words',
    [
        (('distill.py', 'config.py', '--work-dirs', 'a,b'), '--work-dirs='),
        (('distill.py', 'config.py', '--out', 'config.py/x'), '--out='),
        (('model_converters/publish_student.py', 'net.pth', 'config.py/x'), 'out='),
        (('analysis_tools/plot_curves.py', '.', '--out', 'c.pdf'), '--out: expected'),
        (('analysis_tools/collect_results.py', '.', '--csv', 'train'), '--csv: expected'),
        (('analysis_tools/get_flops.py', 'config.py', '--shape', '0'), '--shape'),
        (('analysis_tools/get_flops.py', 'config.py', '--shape', '1', '2', '3'), '--shape'),
        (('dataset_converters/voc_to_coco.py', '.', 'x', '--out', 'x.txt'), '.json'),
        (('test.py', 'config.py', 'net.pth', '--show'), '--show-dir'),
    ],
)
def test_outputs_that_cannot_be_are_found_first(case, in_process, monkeypatch, command, words):
    monkeypatch.chdir(case)
    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    before = sorted(case.rglob('*'))
    status, error = in_process(f'tools/{command[0]}', *command[1:])
    assert status in (1, 2) and words in error and 'Traceback' not in error
    assert sorted(case.rglob('*')) == before


def test_commands_to_copy_quote_paths(tmp_path, tool, capsys, save_training_checkpoint):
    config = Config.fromfile(IMAGES)
    model = MODELS.build(config.model)
    save_training_checkpoint(tmp_path / 'net.pth', config.to_dict(), model)
    out = tmp_path / 'new models' / 'net.pth'  # the suffix comes after the hash
    tool('model_converters/publish_student')([str(tmp_path / 'net.pth'), str(out)])
    last = capsys.readouterr().out.splitlines()[-1]
    published = shlex.split(last)[-1]
    assert published == str(next(out.parent.glob('net-????????.pth')))

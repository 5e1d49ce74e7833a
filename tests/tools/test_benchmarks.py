"""The benchmarks of tools/benchmarks, on small networks: what they compute and report."""

import contextlib
import copy
import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from PIL import Image

from hsakd.registry import MODELS
from hsakd.utils.errors import ConfigError
from hsakd.utils.networks import frozen_networks, trained_networks
from tests.conftest import ROOT, batch, network_cfg, run_tool
from tests.detection_files import CLASSES, write_voc
from tests.tools.work_dirs import write_run

FOLDER = Path('tools/benchmarks')
SGD = dict(lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
KINDS = dict(
    teacher=network_cfg(type='HSAKDTeacher'),
    frozen=network_cfg(type='HSAKDTeacher', frozen=True),
    offline=dict(
        type='HSAKDOffline',
        student=network_cfg(),
        teacher=network_cfg(depth=14),
        kd_loss=dict(type='KLDivergence', temperature=4.0),
    ),
    online=dict(type='HSAKDOnline', networks=[network_cfg(), network_cfg(depth=14)]),
)


@pytest.fixture
def plain_loop(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / FOLDER))
    import plain_loop

    return plain_loop


@pytest.mark.parametrize('kind', KINDS)
def test_plain_loop_is_the_method(plain_loop, kind):
    """Loss, gradients, and weights after two steps are the distiller's."""
    model = MODELS.build(KINDS[kind]).double().train()
    same = copy.deepcopy(model)
    temperature = KINDS[kind].get('kd_loss', {}).get('temperature', 3.0)
    teacher = next(iter(frozen_networks(same).values()), None)
    networks, cpu = list(trained_networks(same).values()), torch.device('cpu')
    loop = plain_loop.PlainLoop(networks, teacher, None, temperature, SGD, cpu)
    optimizer = build_optim_wrapper(model, dict(optimizer=dict(SGD, type='SGD'))).optimizer
    total = 0.0
    for _ in range(2):
        inputs, samples = batch(dtype=torch.float64)
        labels = torch.cat([sample.gt_label for sample in samples])
        optimizer.zero_grad()
        loss = sum(model(inputs, samples, mode='loss').values())
        loss.backward()
        optimizer.step()
        assert loop.step(inputs, labels) == pytest.approx(loss.item(), rel=1e-12)
        total += len(labels) * loss.item()
        for (name, ours), theirs in zip(model.named_parameters(), same.parameters(), strict=True):
            if ours.grad is None:
                assert theirs.grad is None, name
            else:
                torch.testing.assert_close(theirs.grad, ours.grad, rtol=0, atol=1e-12, msg=name)
            torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-12, msg=name)
    assert loop.loss == pytest.approx(total) and loop.images == 8


def test_plain_loader(plain_loop, tmp_path):
    """Shapes and normalization, of arrays and of files."""
    mean, std = [0.2, 0.4, 0.6], [0.5, 0.25, 1.0]
    path = tmp_path / 'a.png'
    Image.fromarray(np.full((40, 50, 3), 255, np.uint8)).save(path)
    for images, size in ((np.full((6, 32, 32, 3), 255, np.uint8), 32), (6 * [path], 224)):
        loader = plain_loop.plain_loader(images, list(range(6)), mean, std, 4, 0)
        ((inputs, labels),) = loader  # the last two are dropped
        assert inputs.shape == (4, 3, size, size) and len(set(labels.tolist())) == 4
        inside = inputs[:, :, size // 2, size // 2]
        expected = (1 - torch.tensor(mean)) / torch.tensor(std)
        torch.testing.assert_close(inside, expected.expand(4, 3))


def write_config(path, kind='offline', **changes):
    """A small network (8 wide) on CIFAR-100."""
    names = ('datasets/cifar100.py', 'schedules/cifar_240e.py', 'default_runtime.py')
    width = dict(num_classes=100, width=8)
    model = dict(
        offline=dict(
            type='HSAKDOffline',
            student=network_cfg(**width),
            teacher=network_cfg(14, **width),
            teacher_ckpt='none.pth',
        ),
        kd=dict(
            type='KD',
            student=network_cfg(branches=False, **width),
            teacher=network_cfg(14, branches=False, **width),
        ),
        online=dict(type='HSAKDOnline', networks=2 * [network_cfg(**width)]),
        baseline=network_cfg(branches=False, **width),
    )[kind]
    lines = [f'_base_ = {[str(ROOT / "configs" / "_base_" / name) for name in names]}']
    lines += [f'{key} = {value!r}' for key, value in dict(changes, model=model).items()]
    path.write_text('\n'.join(lines))
    return path


def run(tool, folder, *options):
    """Rows of the report by their first two columns, and what was printed."""
    out, plot = folder / 'new' / 'figures.json', folder / 'chart.png'
    result = run_tool(FOLDER / tool, *options, '--out', out, '--plot', plot)
    assert result.returncode == 0, result.stderr
    with Image.open(plot) as picture:
        assert picture.format == 'PNG' and picture.width >= 1000
    report = json.loads(out.read_text())
    assert f'threads {report["machine"]["threads"]}' in result.stdout
    return [tuple(row.values()) for row in report['rows']], result.stdout


def test_train_step(tmp_path):
    configs = [write_config(tmp_path / f'{kind}.py', kind) for kind in ('offline', 'online')]
    options = ('--variants', 'exact', '--training', '--steps', 2, '--batch-size', 4)
    rows, said = run('train_step.py', tmp_path, '--pairs', *configs, *options)
    names = [
        (kind, v) for kind in ('offline', 'online') for v in ('plain', 'exact', 'exact, training')
    ]
    assert [row[:2] for row in rows] == names
    for _, variant, ratio, rate, outside, first_step, difference in rows:
        assert 0 < ratio[0] <= ratio[1] <= ratio[2] and 0 < rate[0] <= rate[1] <= rate[2]
        assert f'{ratio[1]:.2f} (' in said
        if variant == 'exact, training':
            assert 0 < outside[1] < 4e3 / rate[1]  # ms of a step of 4 images
        else:
            assert first_step > 0 and difference < 1e-5
    assert not list(tmp_path.rglob('*.pth')) and not (ROOT / 'work_dirs' / 'online').exists()


def check_costs(rows):
    """Of what :func:`write_config` writes."""
    names = [('alone', 'resnet8'), ('hsakd-offline', 'resnet14 -> resnet8')]
    assert [row[:2] for row in rows] == names
    for _, _, ratio, milliseconds, peak, _ in rows:
        assert 0 < ratio[0] <= ratio[1] <= ratio[2] and 0 < milliseconds[1]
        assert peak > 100  # MB, more than torch itself takes
    network = MODELS.build(network_cfg(num_classes=100, width=8))
    beside = [*network.branches.parameters(), *network.joint_heads.parameters()]
    assert [row[-1] for row in rows] == [0, sum(p.numel() for p in beside)]
    assert rows[0][2] == [1, 1, 1]


COSTS = 'hsakd-offline_resnet14_resnet8_1xb64-240e_cifar100.py'


def test_method_cost(tool, monkeypatch, tmp_path, capsys):
    """In this process, the fresh ones too."""
    main = tool('benchmarks/method_cost')

    def run_here(command, **_):
        monkeypatch.setattr('sys.argv', command[1:])
        with contextlib.redirect_stdout(io.StringIO()) as output:
            main()
        return SimpleNamespace(stdout=output.getvalue())

    monkeypatch.setitem(main.__globals__, 'IMAGES', dict(CIFAR100=64))
    monkeypatch.setitem(main.__globals__, 'subprocess', SimpleNamespace(run=run_here, PIPE=None))
    out = tmp_path / 'costs.json'
    options = ['--steps', '2', '--batch-size', '2', '--out', str(out)]
    arguments = ['method_cost.py', str(write_config(tmp_path / COSTS)), *options]
    monkeypatch.setattr('sys.argv', arguments)
    main()
    assert '| method | networks | time / alone | ms a step of 2 |' in capsys.readouterr().out
    check_costs([tuple(row.values()) for row in json.loads(out.read_text())['rows']])


def test_cost_of_a_method_that_remembers_images(tool, monkeypatch, tmp_path):
    names = tool('benchmarks/method_cost').__globals__
    monkeypatch.setitem(names, 'IMAGES', dict(CIFAR100=2000))
    path = ROOT / 'configs/few_shot/crd_resnet20_resnet8_1xb64-24e_cifar100-25pct.py'
    _, crd = names['find_trainings']([str(path)])
    args = SimpleNamespace(workers=None, batch_size=2, cfg_options=dict(fast=False))
    _, step = crd.build(tmp_path, args)
    step()


@pytest.mark.slow
def test_method_cost_with_fresh_processes(tmp_path):
    config = write_config(tmp_path / COSTS)
    rows, _ = run('method_cost.py', tmp_path, config, '--steps', 1, '--batch-size', 2)
    check_costs(rows)


def test_a_student_is_trained_alone_once(tool, tmp_path):
    configs = [write_config(tmp_path / f'{kind}.py', kind) for kind in ('offline', 'kd', 'online')]
    other = ROOT / 'configs/baseline/wrn-16-2_1xb64-240e_cifar100.py'
    paths = [*map(str, configs[:2]), str(other), str(configs[2])]
    trainings = tool('benchmarks/method_cost').__globals__['find_trainings'](paths)
    assert [(Path(t.path).stem, t.plain, t.alone) for t in trainings] == [
        ('offline', True, 0),
        ('offline', False, 0),
        ('kd', False, 0),
        ('online', False, 0),
        (other.stem, True, 4),
        (other.stem, False, 4),
    ]
    assert trainings[0].names == ('alone', '') and trainings[2].names == ('kd', '')
    assert [t.names for t in trainings[4:]] == [('alone', 'wrn-16-2'), ('', 'wrn-16-2')]


def test_turns_and_quartiles(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / FOLDER))
    import timing

    now, calls = [0.0], []
    monkeypatch.setattr(timing.time, 'perf_counter', lambda: now[0])

    def step(name, seconds):
        calls.append(name)
        now[0] += seconds

    steps = dict(slow=lambda: step('slow', 2.0), quick=lambda: step('quick', 0.5))
    assert timing.interleaved(steps, 2, 1.0, 1) == dict(slow=[2.0] * 2, quick=[0.5] * 2)
    assert calls == 2 * [*2 * ['slow'], *3 * ['quick']]
    assert timing.ratios([2.0, 4.0, 6.0], [1.0, 1.0, 1.0]) == [3.0, 4.0, 5.0]
    shown = (None, 3.0, 3000, [0.5, 2.0, 1234.5], 1e-7)
    assert [timing.shown(figure) for figure in shown] == [
        '-',
        '3.00',
        '3,000',
        '2.00 (0.50-1,234.50)',
        '1e-07',
    ]


def test_data(tool, monkeypatch, tmp_path):
    main = tool('benchmarks/data')
    little = dict(IMAGES=dict(cifar=640, imagenet=8), BATCH=4, UNTIMED=1)
    for name, value in little.items():
        monkeypatch.setitem(main.__globals__, name, value)
    out = tmp_path / 'data.json'
    options = ['--rounds', '1', '--seconds', '0.01', '--workers', '1', '--out', str(out)]
    monkeypatch.setattr('sys.argv', ['data.py', *options])
    main()
    rows = json.loads(out.read_text())['rows']
    assert [row['images'] for row in rows] == 3 * ['CIFAR'] + 3 * ['ImageNet']
    assert all(min(row['images/s']) > 0 for row in rows)


def test_errors(in_process, tmp_path):
    config = write_config(tmp_path / 'offline.py')
    taken = tmp_path / 'taken.json'
    taken.touch()
    adam = dict(_delete_=True, optimizer=dict(type='Adam', lr=0.1))
    digits = ROOT / 'configs/hsakd/hsakd-teacher_wrn-16-2_1xb64-80e_digits.py'
    weighted = ('--cfg-options', 'model.loss_weights.loss_cls=2')
    permuted = ('--cfg-options', *(
        f'model.{network}.transforms.type=ColorPermutation' for network in ('student', 'teacher')
    ))  # fmt: skip
    cases = [
        (['wrn-40-2_wrn-40-3'], ['--pairs', "'wrn-40-2_wrn-40-3'", 'wrn-40-2_wrn-16-2']),
        ([config, '--out', taken], ['taken.json', '--force']),
        ([config, '--plot', taken / 'a.png'], ['--plot']),
        ([digits], ['digits.py', "'Digits'", 'CIFAR100']),
        ([write_config(tmp_path / 'baseline.py', 'baseline')], ['baseline.py', 'model.type']),
        ([write_config(tmp_path / 'adam.py', optim_wrapper=adam)], ['adam.py', 'optimizer.type']),
        ([config, *permuted], ['offline.py', 'transforms']),
        ([config, *weighted], ['offline.py', 'first loss']),
    ]
    if not torch.cuda.is_available():
        cases.append(([config, '--device', 'cuda'], ['--device']))
    for args, messages in cases:
        options = ('--variants', 'exact', '--batch-size', 2)
        status, error = in_process(FOLDER / 'train_step.py', *options, '--pairs', *args)
        assert status == 1 and 'Traceback' not in error, error
        assert all(message in error for message in messages), error


def test_short_names_are_of_the_shipped_configs(tool):
    names = tool('benchmarks/train_step').__globals__
    stems = [Path(names['find_config'](name)).stem for name in names['PAIRS']]
    assert len(set(stems)) == len(stems)
    assert stems[-1] == 'hsakd-offline_resnet34_resnet18_8xb32-100e_imagenet'


@pytest.mark.slow
def test_fast_and_images_of_imagenets_size(tmp_path):
    """Which compile, with the operators of hsakd/ops and without them."""
    pairs = (write_config(tmp_path / 'offline.py'), 'resnet34_resnet18')
    options = ('--pairs', *pairs, '--steps', 1, '--batch-size', 2)
    rows, _ = run('train_step.py', tmp_path, *options, '--variants', 'exact', 'fast', 'compile')
    assert [row[1] for row in rows] == 2 * ['plain', 'exact', 'fast', 'compile']


def test_one_epoch_beside_the_authors(tool, tmp_path, monkeypatch, capsys):
    name = 'hsakd-online_resnet56_1xb64-1e_cifar100'
    work_dir = write_run(tmp_path / 'run', name, (8.5, 9.25), seed=3, epochs=1)
    first = dict(net0_loss_cls=4.0, net1_loss_aux_0=6.0, net1_loss_kd_logits=0.5, loss=10.5)
    first |= dict(net0_accuracy_top1=2.0, net1_accuracy_top1=4.0)
    then = dict(net0_loss_cls=3.0, net1_loss_aux_0=5.0, net1_loss_kd_logits=0.25, loss=8.25)
    then |= dict(net0_accuracy_top1=4.0, net1_accuracy_top1=8.0)
    log = [dict(r, epoch=1, iter=i, step=i) for i, r in enumerate(50 * [first] + 50 * [then], 1)]
    text = ''.join(f'{json.dumps(record)}\n' for record in log)
    next(work_dir.glob('*/vis_data')).joinpath('scalars.json').write_text(text)
    out = tmp_path / 'table.md'
    curves = tmp_path / 'curves.csv'
    tool('benchmarks/one_epoch')([str(tmp_path), '--out', str(out), '--curves', str(curves)])
    _, _, authors, ours = out.read_text().splitlines()
    assert authors == '| resnet56 | authors | 43.331 | 42.944 | 0.388 | 4.65, 4.82 | 8.75, 8.74 |'
    assert ours == '| resnet56 | exact, seed 3 | 9.375 | 9.000 | 0.375 | 3.00, 6.00 | 8.50, 9.25 |'
    assert curves.read_text().splitlines() == [
        'network,mode,seed,iteration,loss,cls,div,head 0,head 1',
        'resnet56,exact,3,1,10.500,10.000,0.500,2.000,4.000',
        'resnet56,exact,3,51,8.250,8.000,0.250,4.000,8.000',
    ]


def test_accuracy_over_what_steps_cost(tool, tmp_path, capsys):
    pair = 'resnet20_resnet8_1xb64-{}e_cifar100-25pct'
    plain = 'resnet8_1xb64-24e_cifar100-25pct'
    write_run(tmp_path / 'plain', plain, 35.0, epochs=24)
    write_run(tmp_path / 'kd', f'kd_{pair.format(24)}', 38.0, epochs=24)
    own = dict(model__teacher_ckpt=f'work_dirs/{plain}/epoch_24.pth')  # which is shown all the same
    write_run(tmp_path / 'of plain', f'kd_{pair.format(168)}', 50.0, epochs=168, **own)
    frozen = f'hsakd-offline-frozen_{pair.format(24)}'
    write_run(tmp_path / 'frozen', frozen, 37.0, epochs=24)  # at the cost of hsakd-offline
    schedule = '1xb64-{}e_cifar100-25pct'
    teacher = f'hsakd-teacher-frozen_resnet20_{schedule.format(10)}'
    write_run(tmp_path / 'teacher', teacher, 42.0, epochs=10)
    write_run(tmp_path / 'alone', f'resnet20_{schedule.format(24)}', 42.0, epochs=24)
    write_run(tmp_path / 'at', f'at_{pair.format(24)}', 36.0, epochs=24)  # without a known cost
    names = ('method', 'networks', 'time / alone', 'ms a step of 64')
    steps = [('alone', 'resnet8', [1, 1, 1], [90, 100, 120])]
    steps += [('kd', 'resnet20 -> resnet8', [1.5, 1.75, 2], [150, 180, 200])]
    steps += [('hsakd-offline', 'resnet20 -> resnet8', [7, 8, 9], [700, 800, 900])]
    steps += [('hsakd-teacher', 'resnet20', [6, 6, 6], [1200, 1200, 1200])]
    steps += [('hsakd-teacher-frozen', 'resnet20', [3, 3, 3], [600, 600, 600])]
    steps += [('alone', 'resnet20', [1, 1, 1], [200, 200, 200])]
    cost, table, plot = (tmp_path / name for name in ('cost.json', 'table.md', 'plot.png'))
    cost.write_text(json.dumps(dict(rows=[dict(zip(names, row, strict=True)) for row in steps])))
    equal_compute = tool('benchmarks/equal_compute')
    arguments = [str(tmp_path), '--cost', str(cost), '--iterations', '200']
    equal_compute([*arguments, '--table', str(table), '--plot', str(plot)])
    assert table.read_text().splitlines()[2:] == [
        '| kd | 168 | 0 | 50.00 |  | 1.75 | 100.8 | 8.0 |',
        '| kd | 24 | 0 | 38.00 | +3.00 | 1.75 | 14.4 | 16.0 |',
        '| hsakd-offline-frozen | 24 | 0 | 37.00 | +2.00 | 8.00 | 64.0 | 36.0 |',
        '| plain | 24 | 0 | 35.00 |  | 1.00 | 8.0 | 0.0 |',
    ]
    assert f'no step of theirs: at_{pair.format(24)}\n' in capsys.readouterr().out
    assert plot.read_bytes()[:4] == b'\x89PNG'
    cost.write_text('{}')
    with pytest.raises(ConfigError, match='cost.json: expected the --out of .*method_cost.py'):
        equal_compute(arguments)


def test_what_maps_know(tool, tmp_path, capsys):
    """Shapes of two colors, which random maps keep; and that the smallest box decides."""
    main = tool('benchmarks/map_probe')
    boxes, labels = torch.tensor([[2.0, 2, 4, 4], [0, 0, 6, 4]]), torch.tensor([1, 0])
    found = main.__globals__['classes_of_cells'](boxes, labels, (8, 8), (4, 4))
    assert found.tolist() == [[0, 0, 0, -1], [0, 1, 0, -1], 4 * [-1], 4 * [-1]]
    write_voc(tmp_path / 'data', dict(train=12, val=6))
    config = ROOT / 'configs/detection/bccd/faster-rcnn_resnet8-fpn_1xb4-6e_bccd.py'
    options = [
        f'{split}_dataloader.dataset.{setting}'
        for split in ('train', 'val')
        for setting in (f'data_root={tmp_path}/data/', f'metainfo.classes={CLASSES}')
    ]
    main([str(config), '--init', 'random', '--cfg-options', *options])
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header == '| backbone | disc | square |'
    (name, *precisions), (_, *chance) = (row.strip('| ').split(' | ') for row in rows)
    assert name == 'random' and all(80 < float(value) <= 100 for value in precisions)
    assert all(5 < float(value) < 40 for value in chance)


def test_maps_of_a_classifier(in_process):
    digits = ROOT / 'configs/baseline/wrn-10-1_1xb64-80e_digits.py'
    status, error = in_process(FOLDER / 'map_probe.py', digits, '--init', 'random')
    assert status == 1 and 'one of a detector' in error and 'Traceback' not in error, error

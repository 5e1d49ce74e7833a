"""The benchmarks of tools/benchmarks, on small networks: what they compute and report."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from hsakd.registry import MODELS
from tests.conftest import ROOT, batch, network_cfg, run_tool

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
    model, same = (MODELS.build(KINDS[kind]).double().train() for _ in range(2))
    same.load_state_dict({**dict(model.named_parameters()), **dict(model.named_buffers())})
    networks = getattr(same, 'networks', [getattr(same, 'student', same)])
    temperature = same.kl.temperature if hasattr(same, 'kl') else 1.0
    teacher, cpu = getattr(same, 'teacher', None), torch.device('cpu')
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


def test_plain_loop_counts(plain_loop):
    """A network whose logits say how often it is right."""

    class Known(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, images):
            label = images[:, 0, 0, 0].long()  # 0, 0, 0, 0, 1, 1, ..
            joint = torch.eye(8)[4 * label + torch.arange(len(label)) % 4]
            joint[1] = 0  # the label 0, which is not that of rotation 1
            return self.scale * torch.eye(2)[torch.zeros_like(label)], (self.scale * joint,)

    loop = plain_loop.PlainLoop([Known()], None, None, 1.0, SGD, torch.device('cpu'))
    labels = torch.tensor([0, 1, 1])
    for _ in range(2):
        loop.step(labels.view(3, 1, 1, 1).float().expand(3, 3, 4, 4), labels)
    assert loop.correct == {0: 2} and loop.correct_joint == {(0, 0): 2 * 11}


def test_plain_loader(plain_loop, tmp_path):
    """Shapes and normalisation, of arrays and of files."""
    mean, std = [0.2, 0.4, 0.6], [0.5, 0.25, 1.0]
    arrays = np.full((6, 32, 32, 3), 255, np.uint8)
    path = tmp_path / 'a.png'
    Image.fromarray(np.full((40, 50, 3), 255, np.uint8)).save(path)
    for images, size in ((arrays, 32), (6 * [path], 224)):
        loader = plain_loop.plain_loader(images, list(range(6)), mean, std, 4, 0)
        ((inputs, labels),) = loader  # the last two are dropped
        assert inputs.shape == (4, 3, size, size) and len(set(labels.tolist())) == 4
        inside = inputs[:, :, size // 2, size // 2]
        expected = (1 - torch.tensor(mean)) / torch.tensor(std)
        torch.testing.assert_close(inside, expected.expand(4, 3))


def write_config(path, kind='offline', bases='', **changes):
    """A small network (8 wide) on made-up CIFAR-10."""
    names = ('datasets/cifar10.py', 'schedules/cifar_240e.py', 'default_runtime.py')
    width = dict(num_classes=10, width=8)
    model = dict(
        offline=dict(
            type='HSAKDOffline',
            student=network_cfg(**width),
            teacher=network_cfg(14, **width),
            teacher_ckpt='none.pth',
        ),
        teacher=network_cfg(type='HSAKDTeacher', **width),
        online=dict(type='HSAKDOnline', networks=2 * [network_cfg(**width)]),
        baseline=network_cfg(branches=False, **width),
    )[kind]
    lines = [f'_base_ = {[str(ROOT / "configs" / "_base_" / name) for name in names]}']
    changes = dict(dict(model=model, train_dataloader=dict(num_workers=0)), **changes)
    path.write_text('\n'.join([*lines, *(f'{key} = {value!r}' for key, value in changes.items())]))
    return path


def run(tool, folder, *options):
    """JSON and picture."""
    out, plot = folder / 'new' / 'figures.json', folder / 'chart.png'
    result = run_tool(FOLDER / tool, *options, '--out', out, '--plot', plot)
    assert result.returncode == 0, result.stderr
    with Image.open(plot) as picture:
        assert picture.format == 'PNG' and picture.width >= 1000
    return json.loads(out.read_text()), result.stdout


def check_ratios(found, reference, seconds):
    expected = np.percentile(np.array(reference) / seconds, [25, 50, 75])
    assert found == pytest.approx(expected.tolist())


def check_step(pair, names):
    """That what a pair's report says fits together."""
    variants = pair['variants']
    assert list(variants) == names
    plain = variants['plain']
    for v in variants.values():
        check_ratios(v['ratio_to_plain'], plain['seconds'], v['seconds'])
        rates = np.percentile(pair['batch_size'] / np.array(v['seconds']), [25, 50, 75])
        assert v['images_per_second'] == pytest.approx(rates.tolist())
        assert v['peak_bytes'] > 0 and v['first_step_seconds'] > 0
        phases = v['phase_seconds']
        assert all(min(phases[phase]) > 0 for phase in phases if phase != 'teacher')
        steps = np.sum(list(phases.values()), axis=0)
        assert 0.1 < np.median(steps) / np.median(v['seconds']) < 10
    return plain


def test_train_step(tmp_path):
    configs = [write_config(tmp_path / f'{kind}.py', kind) for kind in ('offline', 'teacher')]
    options = ('--variants', 'plain', 'exact', '--steps', 3, '--batch-size', 4)
    report, said = run('train_step.py', tmp_path, '--pairs', *configs, *options)
    assert list(report['pairs']) == [str(path) for path in configs]
    for path, pair in report['pairs'].items():
        plain = check_step(pair, ['plain', 'exact'])
        exact = pair['variants']['exact']
        assert exact['loss_difference'] < 1e-5
        assert len(exact['seconds']) == 3
        offline = 'offline' in path
        assert all((min(v['phase_seconds']['teacher']) > 0) is offline for v in (plain, exact))

        cfg = Config.fromfile(path).model
        cfg.pop('teacher_ckpt', None)
        model = MODELS.build(cfg).train()
        with FlopCounterMode(display=False) as flops:
            sum(model(*batch(4, 10, 32), mode='loss').values()).backward()
        counted = plain['flops_per_second'] * 4 / plain['images_per_second'][1]
        assert counted == pytest.approx(flops.get_total_flops())
        parameters = sum(p.nbytes for p in model.parameters())
        assert all(v['peak_bytes'] > parameters for v in (plain, exact))
    assert f'threads {report["machine"]["threads"]}' in said
    median = report['pairs'][str(configs[0])]['variants']['exact']['ratio_to_plain'][1]
    assert f'{median:.2f} (' in said


def test_peak_memory_is_that_of_the_step(tmp_path, monkeypatch):
    """Of a step that is known: an array that lives on, and one beside it."""
    monkeypatch.syspath_prepend(str(ROOT / FOLDER))
    from timing import Variant, peak_bytes

    layer = torch.nn.Linear(1000, 1000, bias=False)  # 4 MB, and as much for its gradient

    def train(size):
        for _ in range(2):
            torch.empty(size, dtype=torch.uint8)
        layer(torch.ones(1, 1000)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    for size, expected in ((10**8, 8e6 + 1e8), (1, 8e6 + 4e6)):
        variant = Variant(iter([size] * 3), train, [layer], None, optimizer)
        variant.step()  # makes the momentum
        assert peak_bytes(variant) == pytest.approx(expected, rel=0.01)


def test_end_to_end(tmp_path):
    config = write_config(tmp_path / 'online.py', 'online')
    options = ('--variants', 'exact', '--rounds', 2, '--block', 2, '--batch-size', 4)
    report, said = run('end_to_end.py', tmp_path, '--pairs', config, *options)
    found = report['pairs'][str(config)]['variants']['exact']
    seconds = found['seconds']
    assert {key: len(values) for key, values in seconds.items()} == dict(runner=2, step=2, plain=2)
    for kind in ('step', 'plain'):
        check_ratios(found[f'ratio_to_{kind}'], seconds[kind], seconds['runner'])
    assert f'{found["ratio_to_step"][1]:.3f}' in said
    outside = found['outside_seconds']
    assert 0 < outside[0] <= outside[1] < min(seconds['runner'])
    assert f'{1e3 * outside[1]:.2f}' in said
    assert not list(tmp_path.rglob('*.pth')) and not (ROOT / 'work_dirs' / 'online').exists()


@pytest.mark.slow
def test_scaling(tmp_path):
    config = write_config(tmp_path / 'offline.py')
    options = ('--steps', 1, '--batch-size', 2, '--batch-sizes', 2, 4)
    others = ('--branches', 1, '--m', 1, '--world-sizes', 2)
    report, said = run('scaling.py', tmp_path, '--pair', config, *options, *others)
    axes = report['axes']
    values = {axis: [point['value'] for point in points] for axis, points in axes.items()}
    assert values == dict(batch=[2, 4], branches=[1], m=[1], world=[2])
    two, four = axes['batch']
    (one_branch,), (unrotated,), (shared,) = axes['branches'], axes['m'], axes['world']
    for less, more in ((two, four), (one_branch, two), (unrotated, two), (two, shared)):
        assert less['peak_bytes'] < more['peak_bytes']
    for images, point in ((2, two), (4, four), (2, one_branch), (2, unrotated), (4, shared)):
        assert point['images_per_second'][1] == pytest.approx(images / point['step_seconds'][1])
    memory = report['memory_per_image']
    assert len(memory) == 3
    for v in memory.values():
        small, large = v['peak_bytes']
        assert v['bytes_per_image'] == (large - small) / 2 > 0
    assert f'{memory["ours"]["bytes_per_image"] / 1e6:.2f}' in said


def test_errors(in_process, tmp_path):
    config = write_config(tmp_path / 'offline.py')
    taken = tmp_path / 'taken.json'
    taken.touch()
    adam = dict(_delete_=True, optimizer=dict(type='Adam', lr=0.1))
    digits = str(ROOT / 'configs/hsakd/hsakd-teacher_wrn-16-2_1xb64-80e_digits.py')
    weighted = ('--cfg-options', 'model.loss_weights.loss_cls=2')
    permuted = [
        f'model.{network}.transforms.type=ColorPermutation' for network in ('student', 'teacher')
    ]
    permuted = ('--cfg-options', *permuted)
    cases = [
        (['--pairs', 'wrn-40-2_wrn-40-3'], ['wrn-40-2_wrn-40-3', 'accepted', 'wrn-40-2_wrn-40-1']),
        (['--pairs', config, '--out', taken], ['taken.json', 'exists', '--force']),
        (['--pairs', config, '--plot', taken / 'a.png'], ['--plot', 'is a file']),
        (['--pairs', digits], ['digits.py', "'Digits'", 'CIFAR100']),
        (
            ['--pairs', write_config(tmp_path / 'baseline.py', 'baseline')],
            ['baseline.py', "'BranchedClassifier'", 'HSAKDOffline'],
        ),
        (
            ['--pairs', write_config(tmp_path / 'adam.py', optim_wrapper=adam)],
            ['adam.py', "'Adam'", 'SGD'],
        ),
        (['--pairs', config, *permuted], ['offline.py', 'ColorPermutation', 'Rotation']),
        (['--pairs', config, *weighted], ['offline.py', 'loss_weights']),
    ]
    if not torch.cuda.is_available():
        cases.append((['--pairs', config, '--device', 'cuda'], ['--device cuda', "'cpu'"]))
    for args, messages in cases:
        status, error = in_process(FOLDER / 'train_step.py', *args)
        assert status == 1 and 'Traceback' not in error, error
        assert all(message in error for message in messages), error
    for args, message in (
        (['--pair', write_config(tmp_path / 'teacher.py', 'teacher')], 'has no teacher'),
        (['--pair', config, '--branches', 4], 'accepted are 1..3'),
    ):
        status, error = in_process(FOLDER / 'scaling.py', *args)
        assert status == 1 and message in error, error


def test_short_names_are_of_the_shipped_configs(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / FOLDER))
    from timing import PAIRS
    from variants import short_names

    names = short_names()
    assert set(PAIRS) <= set(names)
    assert names['resnet34_resnet18'].stem == 'hsakd-offline_resnet34_resnet18_8xb32-100e_imagenet'


@pytest.mark.slow
def test_images_of_imagenets_size(tmp_path):
    options = ('--variants', 'plain', 'exact', '--steps', 1, '--batch-size', 1)
    report, _ = run('train_step.py', tmp_path, '--pairs', 'resnet34_resnet18', *options)
    pair = report['pairs']['resnet34_resnet18']
    check_step(pair, ['plain', 'exact'])
    assert pair['variants']['exact']['loss_difference'] < 1e-4


@pytest.mark.slow
def test_fast(tmp_path):
    """Which compiles."""
    config = write_config(tmp_path / 'offline.py')
    options = ('--pairs', config, '--steps', 2, '--batch-size', 4)
    report, _ = run('train_step.py', tmp_path, *options)
    pair = report['pairs'][str(config)]
    check_step(pair, ['plain', 'exact', 'fast'])
    assert pair['variants']['fast']['loss_difference'] < 0.05

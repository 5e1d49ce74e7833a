"""tools/benchmarks/capacity.py, on small networks whose figures can be had by hand."""

import json

import pytest
import torch
from mmengine.config import Config

from hsakd.registry import MODELS
from tests.conftest import batch, network_cfg, run_tool

TOOL = 'tools/benchmarks/capacity.py'
SIZE = 16
# Input and output channels, kernel, and height of the output of ResNet-8's convolutions, 4 wide.
STEM = (3, 4, 3, 16)
CONVOLUTIONS = [
    STEM,
    *2 * [(4, 4, 3, 16)],
    *[(4, 8, 3, 8), (8, 8, 3, 8), (4, 8, 1, 8)],
    *[(8, 16, 3, 4), (16, 16, 3, 4), (8, 16, 1, 4)],
]
HEAD = (16, 5, 1, 1)
MODELS_BY_NAME = dict(
    plain=network_cfg(branches=False),
    joint=network_cfg(type='HSAKDTeacher'),
    deep=network_cfg(type='HSAKDTeacher', depth=14),
    frozen=network_cfg(type='HSAKDTeacher', frozen=True),
    offline=dict(type='HSAKDOffline', student=network_cfg(), teacher=network_cfg(depth=14)),
    online=dict(type='HSAKDOnline', networks=2 * [network_cfg()]),
)


def write_config(path, model, **changes):
    config = dict(
        default_scope='hsakd',
        model=model,
        train_dataloader=dict(batch_size=32),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        auto_scale_lr=dict(base_batch_size=256, enable=True),
    )
    Config(dict(config, **changes)).dump(path)
    return path


@pytest.fixture(scope='module')
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp('capacity')
    paths = [write_config(folder / f'{name}.py', m) for name, m in MODELS_BY_NAME.items()]
    result = run_tool(
        TOOL, *paths, '--shape', SIZE, '--repeats', 1, '--gpus', 1, 8, 512, '--out',
        folder / 'new' / 'capacity.json', '--flops-per-second', '1e12', '4e12', '--utilisation',
        '0.5', '0.25', '--bandwidth', '1e9',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result, json.loads((folder / 'new' / 'capacity.json').read_text())


@pytest.fixture(scope='module')
def plans(result):
    return result[1]['configs']


def flops(*layers):
    return sum(2 * cin * cout * k * k * size * size for cin, cout, k, size in layers)


def test_flops_by_hand(plans):
    """Backward: once for the weights, once for the inputs, but for those of the first layer."""
    found = plans['plain']['flops']
    assert found['forward'] == flops(*CONVOLUTIONS, HEAD)
    assert found['backward'] == 2 * found['forward'] - flops(STEM)
    assert found['teacher_forward'] == 0


def test_flops_of_distillers(plans):
    counted = {name: plan['flops'] for name, plan in plans.items()}
    # Four copies, with branches, of which each has more to do than the head.
    assert counted['joint']['forward'] > 4 * counted['plain']['forward']
    assert counted['joint']['backward'] == 2 * counted['joint']['forward'] - 4 * flops(STEM)
    # No backward pass through a fixed teacher, and one for the branches of a frozen backbone.
    teacher = counted['deep']['forward']
    assert counted['offline']['teacher_forward'] == teacher
    assert counted['offline']['forward'] == teacher + counted['joint']['forward']
    assert counted['offline']['backward'] == counted['joint']['backward']
    assert counted['frozen']['forward'] == counted['joint']['forward']
    assert counted['frozen']['backward'] < counted['joint']['backward']
    for key in ('forward', 'backward'):
        assert counted['online'][key] == 2 * counted['joint'][key]


@pytest.mark.parametrize('name', MODELS_BY_NAME)
def test_memory_kept_is_what_autograd_saves(plans, name):
    """By another way than the tool's: autograd's hooks."""
    model = MODELS.build(MODELS_BY_NAME[name]).train()
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}

    def saved(num):
        storages = {}

        def pack(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            losses = model(*batch(num, size=SIZE), mode='loss')
        assert sum(losses.values()).requires_grad
        return sum(size for pointer, size in storages.items() if pointer not in own) / num

    memory = plans[name]['bytes']
    assert memory['kept'] == pytest.approx(saved(4), rel=1e-3)
    assert memory['kept'] <= memory['peak'] < 2 * memory['kept'] + memory['teacher_peak']
    smaller = plans[name]['bytes_smaller_batch']
    assert memory['kept'] == pytest.approx(smaller['kept'], rel=0.05)
    assert memory['peak'] < smaller['peak']  # of which a part does not grow


def test_memory_of_parameters(plans):
    fixed = {name: plan['bytes_fixed'] for name, plan in plans.items()}
    for name, cfg in MODELS_BY_NAME.items():
        parameters = list(MODELS.build(cfg).parameters())
        assert fixed[name]['parameters'] == 4 * sum(p.numel() for p in parameters)
        gradients = 4 * sum(p.numel() for p in parameters if p.requires_grad)
        for key in ('gradients', 'optimizer', 'ddp_buckets'):
            assert fixed[name][key] == gradients, key
    assert fixed['offline']['gradients'] == fixed['joint']['gradients']  # none of the teacher
    assert 0 < fixed['frozen']['gradients'] < fixed['joint']['gradients']
    teacher = plans['offline']['bytes']['teacher_peak']
    assert 0 < teacher < plans['deep']['bytes']['kept']
    assert plans['online']['bytes']['teacher_peak'] == 0


def test_largest_batch(plans):
    plan = plans['offline']
    room = 0.9 * 24e9 - sum(plan['bytes_fixed'].values())
    fit = plan['largest_batch']['24']
    assert fit['float32'] * plan['bytes']['peak'] <= room
    assert (fit['float32'] + 1) * plan['bytes']['peak'] > room
    assert fit['half'] - 2 * fit['float32'] in (0, 1)


def test_scaling(plans):
    plan = plans['offline']
    one, eight, many = plan['scaling']
    assert [row['sent_bytes_a_step'] for row in (one, eight, many)] == pytest.approx(
        [share * plan['bytes_fixed']['gradients'] for share in (0, 2 * 7 / 8, 2 * 511 / 512)]
    )
    assert [row['global_batch'] for row in (one, eight, many)] == [32, 256, 16384]
    assert [row['learning_rate'] for row in (one, eight, many)] == pytest.approx([0.0125, 0.1, 6.4])
    assert [row['steps_an_epoch'] for row in (one, eight, many)] == [40037, 5005, 79]
    image = plan['flops']['forward'] + plan['flops']['backward']
    assert plan['gpu_seconds'] == pytest.approx([image / 5e11, image / 1e12])
    step = 32 * image / 1e12 + eight['sent_bytes_a_step'] / 1e9
    assert eight['step_seconds'][1] == pytest.approx(step)
    assert eight['hours'][1] == pytest.approx(step * 5005 * 100 / 3600)


def test_tables(result):
    run, report = result
    assert run.stdout.count('offline') == 4 + 3  # a row a table, and one for each number of GPUs
    forward = report['configs']['offline']['flops']['forward']
    assert f'{forward / 1e9:,.1f}' in run.stdout
    assert 'Left out: validation' in run.stdout


def test_errors(in_process, tmp_path):
    config = write_config(tmp_path / 'good.py', network_cfg())
    taken = tmp_path / 'taken.json'
    taken.touch()
    detector = 'configs/detection/voc/faster-rcnn_resnet18-c4_8xb2-18000i_voc0712.py'
    for args, messages in (
        ([tmp_path / 'none.py'], ['no such file']),
        ([config, '--utilisation', '0.5'], ['--utilisation', 'one for each']),
        ([config, '--utilisation', '0.5', '1.5'], ['--utilisation', 'up to 1']),
        ([config, '--out', taken], ['taken.json', 'exists', '--force']),
        ([detector], ['detector', 'classifiers']),
        (
            [write_config(tmp_path / 'unknown.py', network_cfg(type='Nothing'))],
            ['unknown.py', 'Nothing'],
        ),
        (
            [write_config(tmp_path / 'loaderless.py', network_cfg(), train_dataloader={})],
            ['loaderless.py', 'batch_size'],
        ),
    ):
        status, error = in_process(TOOL, *args, '--shape', 16, '--repeats', 1)
        lines = [line for line in error.splitlines() if line]
        assert (status, len(lines)) == (1, 1), error
        assert lines[0].startswith('error: ')
        assert all(message in lines[0] for message in messages), error
    status, error = in_process(TOOL, config, '--bandwidth', '0')
    assert status == 2 and "'0' is not a number above 0" in error

"""Online distillation as a user runs it: train, resume, test, publish one of the networks."""

import json

import pytest
import torch
from mmpretrain import get_model

from hsakd.utils.checkpoint import read_checkpoint
from tests.conftest import ROOT, run_tool

CONFIG = ROOT / 'configs/hsakd/hsakd-online_wrn-10-1_1xb64-80e_digits.py'
PUBLISH = 'model_converters/publish_student'


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('online')
    options = ['train_cfg.max_epochs=2', 'train_cfg.val_interval=1']
    done = run_tool(
        'tools/train.py', CONFIG, '--work-dir', work_dir, '--cfg-options', *options,
        'default_hooks.checkpoint.max_keep_ckpts=-1',
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return work_dir


def records(work_dir):
    path = sorted(work_dir.glob('*/vis_data/scalars.json'))[-1]
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_log_has_the_losses_and_accuracies_of_every_network(work_dir):
    training, *_, validation = records(work_dir)
    terms = ['loss_cls', 'loss_kd_logits']
    terms += [f'loss_{what}_{branch}' for what in ('aux', 'kd_aux') for branch in range(3)]
    assert {f'net{i}_{term}' for i in (0, 1) for term in terms} <= set(training)
    for i in (0, 1):
        assert 0 <= validation[f'net{i}/accuracy/top1'] <= 100
        assert f'net{i}/branch_3/joint_top1' in validation
    assert validation['accuracy/top1'] == validation['net0/accuracy/top1']


@pytest.mark.parametrize('which', ['0', '1', 'best'])
def test_any_of_the_networks_is_published(work_dir, tmp_path, tool, which):
    tool(PUBLISH)([str(work_dir / 'epoch_2.pth'), f'{tmp_path}/net', '--network', which])
    published = get_model(str(next(tmp_path.glob('net-*.py'))), pretrained=True)
    index = which
    if which == 'best':
        last = records(work_dir)[-1]
        index = int(last['net1/accuracy/top1'] > last['net0/accuracy/top1'])
    trained = torch.load(work_dir / 'epoch_2.pth', weights_only=False)['state_dict']
    for name, value in published.state_dict().items():
        assert torch.equal(value, trained[f'networks.{index}.{name}'])


def test_best_follows_the_logs_at_the_checkpoints_epoch(work_dir, tmp_path, tool, capsys):
    copy = tmp_path / 'run'
    (copy / 'a' / 'vis_data').mkdir(parents=True)
    (copy / 'epoch_2.pth').symlink_to(work_dir / 'epoch_2.pth')
    log = copy / 'a' / 'vis_data' / 'scalars.json'
    record = json.loads((work_dir / 'run.json').read_text())
    (copy / 'run.json').write_text(json.dumps(record | dict(sessions=['a'])))
    record = '{{"net0/accuracy/top1": {}, "net1/accuracy/top1": {}, "step": {}}}\n'
    log.write_text(record.format(90, 10, 1) + record.format(20, 30, 2))
    tool(PUBLISH)([str(copy / 'epoch_2.pth'), f'{tmp_path}/x', '--network', 'best'])
    assert 'network 1 is the best' in capsys.readouterr().out


def test_best_without_a_validation_is_refused(work_dir, tmp_path, in_process):
    (tmp_path / 'epoch_2.pth').symlink_to(work_dir / 'epoch_2.pth')
    status, error = in_process(
        f'tools/{PUBLISH}.py', tmp_path / 'epoch_2.pth', f'{tmp_path}/x', '--network', 'best'
    )
    assert status == 1
    assert '--network best' in error
    assert not list(tmp_path.glob('x-*'))


def test_number_that_is_no_network_is_refused(work_dir, tmp_path, in_process):
    status, error = in_process(
        f'tools/{PUBLISH}.py', work_dir / 'epoch_2.pth', f'{tmp_path}/x', '--network', '2'
    )
    assert status == 1 and 'network' in error and '0..1' in error


def test_checkpoint_of_one_network_is_not_tested_as_two(work_dir, tmp_path, in_process):
    weights = read_checkpoint(work_dir / 'epoch_2.pth', 'checkpoint')['state_dict']
    one = {k: v for k, v in weights.items() if k.startswith('networks.0.')}
    path = tmp_path / 'one.pth'
    torch.save(dict(state_dict=one), path)
    status, error = in_process('tools/test.py', CONFIG, path, '--work-dir', tmp_path)
    assert status == 1
    assert 'the checkpoint has 1 networks, the config 2' in error

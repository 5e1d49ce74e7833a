"""The snippets of docs/your_config.md, each trained as the page says."""

import json
import re
import shlex
import sys
from types import ModuleType
from unittest.mock import MagicMock

import pytest
import torch

from tests.conftest import ROOT, run_tool, write_image_folder

TEXT = (ROOT / 'docs/your_config.md').read_text()
FILES = dict(re.findall(r'```python\n# (\w+\.py)\n(.*?)```', TEXT, re.S))
COMMANDS = re.findall(r'^python (tools/.*)$', TEXT, re.M)
#: One short epoch.
SHORT = ('model.backbone.depth=8', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1',
         'train_dataloader.num_workers=0', 'train_dataloader.batch_size=8',
         'val_dataloader.num_workers=0')  # fmt: skip


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """A folder with the files, and images of three classes."""
    folder = tmp_path_factory.mktemp('project')
    (folder / 'configs').symlink_to(ROOT / 'configs')
    for name, text in FILES.items():
        (folder / name).write_text(text)
    for split in ('train', 'test'):
        write_image_folder(folder / 'data/images' / split, ('cat', 'cow', 'dog'), per_class=4)
    return folder


def train(project, name, *options):
    done = run_tool('tools/train.py', name, '--cfg-options', *SHORT, *options, cwd=project)
    assert done.returncode == 0, done.stderr
    assert 'nothing here reads' not in done.stdout
    (log,) = (project / 'work_dirs' / name.removesuffix('.py')).glob('*/vis_data/scalars.json')
    losses = [json.loads(line)['loss'] for line in log.read_text().splitlines() if 'loss' in line]
    checkpoint = project / 'work_dirs' / name.removesuffix('.py') / 'epoch_1.pth'
    return losses, torch.load(checkpoint, weights_only=False)


def test_all_are_run():
    named = re.findall(r'^# (my_\w+\.py)$', TEXT, re.M)
    assert sorted(FILES) == sorted(named) and TEXT.count('```python') == len(named)


def test_every_training_snippet_changes_the_training(project):
    """Each but the hooks and loggers, by its loss of the first step."""
    names = [name for name in FILES if name not in ('my_wandb.py', 'my_mlflow.py', 'my_hooks.py')]
    first = {name: train(project, name, 'default_hooks.logger.interval=1')[0] for name in names}
    losses = {losses[0] for losses in first.values()}
    assert len(losses) == len(names) == 5


def test_hooks(project):
    checkpoint = train(project, 'my_hooks.py')[1]
    assert 'ema_state_dict' in checkpoint and 'accuracy/top1' in checkpoint['early_stopping']


@pytest.mark.parametrize('name, module', [('my_wandb.py', 'wandb'), ('my_mlflow.py', 'mlflow')])
def test_loggers_of_others(name, module, project, in_process, monkeypatch, tmp_path):
    """With a stand-in for the package, which is told of the losses."""
    told = MagicMock()
    stand_in = ModuleType(module)
    stand_in.__getattr__ = lambda name: getattr(told, name)
    monkeypatch.setitem(sys.modules, module, stand_in)
    monkeypatch.chdir(project)
    options = (*SHORT, 'default_hooks.logger.interval=1')
    status, error = in_process('tools/train.py', name, '--cfg-options', *options)
    assert status == 0, error
    logged = told.log.call_args_list or told.log_metrics.call_args_list
    assert any('loss' in call.args[0] for call in logged)


def test_commands(project, tmp_path):
    """A finished run is extended, and takes a new learning rate."""
    epochs = iter((1, 2, 3, 4))
    for command in COMMANDS:
        tool, name, *rest = shlex.split(command)
        options = [word for word in rest if '=' in word]
        flags = [word for word in rest if word not in options and word != '--cfg-options']
        length = f'train_cfg.max_epochs={next(epochs)}'
        arguments = (*flags, '--work-dir', tmp_path, '--cfg-options', *SHORT, *options, length)
        done = run_tool(tool, name, *arguments, cwd=project)
        assert done.returncode == 0, done.stderr
        for option in options[1:]:
            assert option.split('=')[0] + '=' in done.stdout
    assert (tmp_path / 'epoch_4.pth').is_file()
    assert 'optim_wrapper.optimizer.lr=0.01 (was 0.05)' in done.stdout

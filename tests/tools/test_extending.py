"""The example method of docs/extending.md, run as a user would."""

import re

import mmpretrain
import pytest
import torch

from tests.conftest import ROOT, run_python

#: Three short epochs of one batch each.
OPTIONS = [
    'train_dataloader.dataset.train_size=64',
    'val_dataloader.dataset.train_size=1700',
    'train_cfg.max_epochs=3',
    'train_cfg.val_interval=3',
    'param_scheduler.milestones=[2]',
    'default_hooks.checkpoint.max_keep_ckpts=3',
]


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """A folder with the two files of the docs, and a teacher."""
    folder = tmp_path_factory.mktemp('project')
    section = (ROOT / 'docs/extending.md').read_text().split('## A method')[1]
    method, config = re.findall(r'```python\n(.*?)```', section, re.S)
    assert len(method.splitlines()) <= 40 and len(config.splitlines()) <= 6
    (folder / 'hint_kd.py').write_text(method)
    (folder / 'hint_kd_digits.py').write_text(config.replace('CONFIGS', str(ROOT / 'configs')))
    config = ROOT / 'configs/baseline/wrn-10-1_1xb64-80e_digits.py'
    teacher = 'model.backbone.depth=16 model.backbone.widen_factor=2 model.head.in_channels=128'
    run = run_python(
        'tools/train.py', config, '--work-dir', folder / 'teacher', '--cfg-options', *OPTIONS,
        *teacher.split(),
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return folder


def train(project, monkeypatch, name, *args, **options):
    monkeypatch.setenv('PYTHONPATH', f'{project}:{ROOT}')
    values = [f'{key}={value}' for key, value in options.items()]
    values.append(f'model.teacher_ckpt={project}/teacher/epoch_3.pth')
    run = run_python(
        'tools/train.py', project / 'hint_kd_digits.py', '--work-dir', project / name, *args,
        '--cfg-options', *OPTIONS, *values,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run


def weights(project, name):
    return torch.load(project / name / 'epoch_3.pth', weights_only=False)['state_dict']


def test_trains_resumes_to_the_bit_and_publishes(project, monkeypatch):
    train(project, monkeypatch, 'whole')
    whole = weights(project, 'whole')
    assert any(name.startswith('regressor.') for name in whole)
    assert not any(name.startswith('teacher.') for name in whole)
    train(project, monkeypatch, 'resumed', '--resume', str(project / 'whole/epoch_1.pth'))
    resumed = weights(project, 'resumed')
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())

    published = run_python(
        'tools/model_converters/publish_student.py', project / 'whole/epoch_3.pth',
        project / 'models/student',
    )  # fmt: skip
    assert published.returncode == 0, published.stderr
    (config,) = (project / 'models').glob('student-*.py')
    student = mmpretrain.get_model(str(config), pretrained=True)
    assert 'regressor.weight' not in student.state_dict()
    assert torch.equal(student.head.fc.weight, whole['student.head.fc.weight'])


@pytest.mark.slow
def test_runs_in_fast_mode(project, monkeypatch):
    run = train(project, monkeypatch, 'fast', '--fast')
    assert 'loss_hint' in run.stdout + run.stderr
    for name, value in weights(
        project, 'whole' if (project / 'whole').exists() else 'fast'
    ).items():
        torch.testing.assert_close(weights(project, 'fast')[name], value, rtol=0.1, atol=0.1)

"""The scripts for several processes and machines, with gloo and with a stand-in for Slurm."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch

from tests.conftest import ROOT, run_tool

PLAIN = 'configs/baseline/wrn-10-1_1xb64-80e_digits.py'
#: Notes the threads that are left when a process ends.
NOTE_THREADS = """
import atexit, os
from pathlib import Path
@atexit.register
def note():
    names = [path.read_text().strip() for path in Path('/proc/self/task').glob('*/comm')]
    if 'RANK' in os.environ:
        Path(os.environ['NOTES'], 'threads.' + os.environ['RANK']).write_text(' '.join(names))
"""
SCRIPTS = ('dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh')

#: Stands in for tools/train.py: notes its arguments, and stops as that does.
TRAIN = """
import os, signal, sys, time
from pathlib import Path
folder, asked = Path(os.environ['HSAKD_STOP_DIR']), []
signal.signal(signal.SIGUSR1, lambda *_: asked.append(1))
out = Path(os.environ['NOTES'])
rank = os.environ.get('RANK') or os.environ['SLURM_PROCID']
(out / f'arguments.{rank}').write_text(repr(sys.argv[1:]))
for _ in range(600):
    time.sleep(0.05)
    if asked or (folder / 'stop').exists():
        if 'deaf' not in sys.argv:
            (folder / 'saved').touch()
            sys.exit(0)
sys.exit(1)
"""

#: Stands in for a training of which a worker dies once.
DYING = """
import os, runpy, sys, time
from pathlib import Path
import torch.distributed as dist
sys.path.insert(0, ROOT)
# The file alone, since the package imports much.
functions = runpy.run_path(ROOT + '/hsakd/engine/distributed.py')
anywhere, restarted = functions['anywhere'], functions['restarted']
again = restarted()
dist.init_process_group('gloo')
assert dist.get_world_size() == 2
for step in range(10):
    if not again and step == 5 and dist.get_rank() == 1:
        os._exit(3)
    assert not anywhere(False) and anywhere(dist.get_rank() == 1)
    time.sleep(0.1)
note = Path(os.environ['NOTES']) / f'rank.{dist.get_rank()}'
note.write_text(f'{again}')
dist.barrier()
dist.destroy_process_group()
"""

SRUN = """
import os, signal, subprocess, sys
command = sys.argv[sys.argv.index('python'):]
options = sys.argv[1 : sys.argv.index('python')]
with open(os.environ['NOTES'] + '/srun', 'w') as notes:
    notes.write(' '.join(options))
tasks = int(next(o for o in options if o.startswith('--ntasks=')).split('=')[1])
slurm = dict(SLURM_NTASKS=str(tasks), SLURM_NODELIST='node[1-2]')
tasks = [
    subprocess.Popen(command, env={**os.environ, **slurm, 'SLURM_PROCID': str(i),
                                   'SLURM_LOCALID': str(i)})
    for i in range(tasks)
]
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, _: [task.send_signal(number) for task in tasks])
sys.exit(max(abs(task.wait()) for task in tasks))
"""

SCONTROL = """
import os, sys
if sys.argv[1] == 'show':
    print('127.0.0.1')
else:
    with open(os.environ['NOTES'] + '/requeued', 'w') as notes:
        notes.write(' '.join(sys.argv[1:]))
"""


@pytest.fixture
def env(tmp_path):
    """An environment with Slurm's commands, and a folder for notes."""
    commands = tmp_path / 'bin'
    commands.mkdir()
    for name, source in (('srun', SRUN), ('scontrol', SCONTROL)):
        (commands / name).write_text(f'#!{sys.executable}\n{source}')
        (commands / name).chmod(0o755)
    (tmp_path / 'notes').mkdir()
    path = f'{commands}:{os.path.dirname(sys.executable)}:{os.environ["PATH"]}'
    kept = {k: v for k, v in os.environ.items() if not k.startswith(('SLURM', 'MASTER', 'NNODES'))}
    return {**kept, 'PATH': path, 'NOTES': str(tmp_path / 'notes'), 'TMPDIR': str(tmp_path)}


@pytest.fixture
def tools(tmp_path):
    """The scripts beside a train.py of the test's: call with its source."""

    def copy(source):
        folder = tmp_path / 'my tools'
        folder.mkdir()
        for path in (ROOT / 'tools').glob('*.sh'):
            shutil.copy(path, folder)
        (folder / 'train.py').write_text(source.replace('ROOT', repr(str(ROOT))))
        return folder

    return copy


def start(env, *command, **kwargs):
    return subprocess.Popen(
        ['bash', *map(str, command)], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True, **kwargs,
    )  # fmt: skip


def run(env, *command):
    process = start(env, *command)
    output, _ = process.communicate(timeout=200)
    return process.returncode, output


def wait_for(path, process):
    for _ in range(600):
        if path.exists():
            return
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    raise AssertionError(f'no {path}')


def free_port():
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        return found.getsockname()[1]


@pytest.mark.parametrize('script', SCRIPTS)
def test_usage(script, env):
    status, output = run(env, ROOT / 'tools' / script, 'config.py')
    assert status == 2 and output.startswith(f'usage: tools/{script} ')
    assert os.access(ROOT / 'tools' / script, os.X_OK)


@pytest.mark.parametrize(
    'settings, gpus, message',
    [
        ({}, 'two', 'GPUS: expected a whole number from 1, got two'),
        ({}, 0, 'GPUS: expected a whole number from 1, got 0'),
        (dict(NNODES='2'), 1, 'MASTER_ADDR: expected'),
        (dict(NNODES='2', NODE_RANK='2', MASTER_ADDR='127.0.0.1'), 1, 'NODE_RANK: expected'),
        (dict(MAX_RESTARTS='often'), 1, 'MAX_RESTARTS: expected'),
    ],
)
def test_settings_that_cannot_be(settings, gpus, message, env):
    status, output = run({**env, **settings}, ROOT / 'tools/dist_train.sh', 'config.py', gpus)
    assert status == 2 and output.startswith(f'error: {message}')
    assert len(output.splitlines()) == 1


@pytest.mark.parametrize(
    'number, status', [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)]
)
def test_a_signal_saves_and_stops(number, status, tools, env, tmp_path):
    script = tools(TRAIN) / 'dist_train.sh'
    env['MAX_RESTARTS'] = '3'  # of which none is used
    process = start(env, script, 'a config.py', 2, '--work-dir', 'with space', 'it\'s "x"')
    for rank in (0, 1):
        wait_for(tmp_path / f'notes/arguments.{rank}', process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status and output.count('asked to stop') == 1, output
    assert 'Error' not in output
    arguments = ['a config.py', '--launcher', 'pytorch', '--work-dir', 'with space', 'it\'s "x"']
    assert eval((tmp_path / 'notes/arguments.1').read_text()) == arguments
    assert not list(tmp_path.glob('hsakd-stop*'))


def test_a_second_signal_ends_workers_that_do_not_listen(tools, env, tmp_path):
    process = start(env, tools(TRAIN) / 'dist_train.sh', 'config.py', 1, 'deaf')
    wait_for(tmp_path / 'notes/arguments.0', process)
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode not in (0, 75), output


def test_two_machines_of_which_a_worker_dies(tools, env, tmp_path):
    script = tools(DYING) / 'dist_train.sh'
    env |= dict(NNODES='2', MAX_RESTARTS='1', PORT=str(free_port()), MASTER_ADDR='127.0.0.1')
    env['GLOO_SOCKET_IFNAME'] = 'lo'
    machines = [start({**env, 'NODE_RANK': node}, script, 'config.py', 1) for node in '10']
    outputs = [machine.communicate(timeout=120)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], outputs
    # On both, whichever of them torchrun counts a restart for.
    assert [(tmp_path / f'notes/rank.{rank}').read_text() for rank in (0, 1)] == ['True', 'True']


def test_slurm_requeues_what_was_saved(tools, env, tmp_path):
    env |= dict(GPUS='2', GPUS_PER_NODE='4', SRUN_ARGS='--signal=USR1@120 --gres=none')
    env['SLURM_JOB_ID'] = '42'
    script = tools(TRAIN) / 'slurm_train.sh'
    work_dir = tmp_path / 'a work dir'
    process = start(env, script, 'gpus', 'a job', 'config.py', work_dir, '--amp')
    for rank in (0, 1):
        wait_for(tmp_path / f'notes/arguments.{rank}', process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    assert (tmp_path / 'notes/requeued').read_text() == 'requeue 42'
    options = (tmp_path / 'notes/srun').read_text()
    assert options == (
        '--partition=gpus --job-name=a job --gres=gpu:2 --ntasks=2 --ntasks-per-node=2 '
        '--cpus-per-task=5 --kill-on-bad-exit=1 --signal=USR1@120 --gres=none'
    )
    arguments = ['config.py', '--work-dir', str(work_dir), '--launcher', 'slurm', '--amp']
    assert eval((tmp_path / 'notes/arguments.1').read_text()) == arguments
    assert not list(work_dir.iterdir())


def test_what_two_processes_validate_is_what_they_save(env, tmp_path):
    (tmp_path / 'sitecustomize.py').write_text(NOTE_THREADS)
    env['PYTHONPATH'] = f'{tmp_path}:{env["PYTHONPATH"]}'
    work_dir = tmp_path / 'work'
    options = ('--cfg-options', 'train_cfg.max_epochs=2', 'train_cfg.val_interval=1')
    status, output = run(
        env, ROOT / 'tools/dist_train.sh', ROOT / PLAIN, 2, '--work-dir', work_dir, *options
    )
    assert status == 0, output
    for rank in (0, 1):  # a thread of gloo's may abort a process that ends
        assert 'gloo' not in (tmp_path / f'notes/threads.{rank}').read_text()
    # 100 images a process in batches of 64
    assert torch.load(work_dir / 'epoch_2.pth', weights_only=False)['meta']['iter'] == 4
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    validated = [json.loads(line) for line in path.read_text().splitlines()][-1]
    metrics = tmp_path / 'metrics.json'
    result = run_tool(
        'tools/test.py', ROOT / PLAIN, work_dir / 'epoch_2.pth', '--work-dir', tmp_path / 'test',
        '--out', metrics, '--out-item', 'metrics',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    tested = json.loads(metrics.read_text())
    assert tested and all(validated[name] == value for name, value in tested.items())


def test_two_tasks_of_slurm_train(env, tmp_path):
    env |= dict(GPUS='2', PORT=str(free_port()))
    status, output = run(
        env, ROOT / 'tools/slurm_train.sh', 'cpus', 'job', ROOT / PLAIN, tmp_path / 'work',
        '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1',
    )  # fmt: skip
    assert status == 0, output
    saved = torch.load(tmp_path / 'work/epoch_1.pth', weights_only=False)
    assert saved['meta']['iter'] == 2  # 100 images a process in batches of 64

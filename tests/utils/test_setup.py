"""``import hsakd`` does nothing to a process; ``hsakd.setup()`` does what is needed."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

IMPORT = """
import os, signal, sys
before = set(sys.modules)
paths, handlers = list(sys.meta_path), [signal.getsignal(s) for s in signal.valid_signals()]
forks = []
os.register_at_fork = lambda **kwargs: forks.append(kwargs)
import hsakd
added = set(sys.modules) - before
assert 'torch' not in added and sum(name.startswith('hsakd') for name in added) < 6, added
assert len(added) < 60, len(added)
assert sys.meta_path == paths and not forks and 'mmcv._ext' not in sys.modules
assert [signal.getsignal(s) for s in signal.valid_signals()] == handlers
"""
LOADERS = """
loaders, operators = set(CheckpointLoader._schemes.values()), dir(torch.ops)
import hsakd
assert set(CheckpointLoader._schemes.values()) == loaders and dir(torch.ops) == operators
hsakd.setup()
loaders, operators = set(CheckpointLoader._schemes.values()), sys.modules['mmcv._ext']
assert {loader.__module__ for loader in loaders} == {'hsakd.utils.checkpoint_schemes'}
hsakd.setup()
assert set(CheckpointLoader._schemes.values()) == loaders
assert sys.modules['mmcv._ext'] is operators
"""


def python(code: str, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, env={**os.environ, **env}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    'code',
    [
        'import mmengine.registry, yapf\n' + IMPORT,
        'import sys, torch\nfrom mmengine.runner import CheckpointLoader\n' + LOADERS,
    ],
)
def test_importing_does_nothing_to_the_process(code):
    result = python(code)
    assert result.returncode == 0, result.stderr


def test_tools_set_up_what_they_run_in(tmp_path):
    (tmp_path / 'tool.py').write_text(
        f'import sys; sys.path.insert(0, {str(ROOT)!r})\n'
        'from hsakd.utils.cli import run_tool\n'
        'run_tool(lambda: print("torch" in sys.modules, "mmcv._ext" in sys.modules))'
    )
    for args, found in (['--help'], 'False False\n'), ([], 'True True\n'):
        command = [sys.executable, tmp_path / 'tool.py', *args]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == found


def test_cache_files_of_yapf_that_a_killed_process_left_empty(tmp_path):
    # What yapf itself keeps, found by running it alone; emptied as its rename leaves them.
    assert python('import yapf', XDG_CACHE_HOME=str(tmp_path)).returncode == 0
    files = [path for path in tmp_path.rglob('*') if path.is_file()]
    for path in files:
        path.write_bytes(b'')
    script = (
        'import hsakd; hsakd.setup(); from mmengine.config import Config; '
        'print(Config(dict(a=[1])).pretty_text)'
    )
    result = python(script, XDG_CACHE_HOME=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert result.stdout == 'a = [\n    1,\n]\n\n'
    assert files, 'yapf keeps no files any more: _import_yapf of hsakd/utils/setup.py is not needed'
    assert all(path.stat().st_size == 0 for path in files)  # nor does it read or mend them

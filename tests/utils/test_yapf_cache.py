import os
import subprocess
import sys


def test_cache_files_that_a_killed_process_left_empty(tmp_path):
    script = (
        'import hsakd; from mmengine.config import Config; print(Config(dict(a=[1])).pretty_text)'
    )
    environment = {**os.environ, 'XDG_CACHE_HOME': str(tmp_path)}
    # What yapf itself keeps, found by running it alone; emptied as its rename leaves them.
    subprocess.run([sys.executable, '-c', 'import yapf'], env=environment, check=True)
    files = [path for path in tmp_path.rglob('*') if path.is_file()]
    for path in files:
        path.write_bytes(b'')
    run = [sys.executable, '-c', script]
    result = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == 'a = [\n    1,\n]\n\n'
    assert files, 'yapf keeps no files any more: hsakd/utils/yapf_cache.py is not needed'
    assert all(path.stat().st_size == 0 for path in files)  # nor does it read or mend them

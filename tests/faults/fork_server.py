"""Starts tools as processes of their own without importing everything anew each time.

``python fork_server.py`` imports what the tools need and then, for every line of JSON on its
standard input, forks (``start``: argv, env, log) or waits (``wait``: pid, seconds). What a fork
runs is the tool's file as ``python tools/...`` does.
"""

import json
import os
import runpy
import signal
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    if 'detection' in sys.argv:
        from hsakd.utils.third_party import import_mmdet

        import_mmdet()
    import mmpretrain.engine  # noqa: F401
    import tensorboard  # noqa: F401

    import hsakd.apis.running
    import hsakd.models  # noqa: F401

    answer(ready=True)
    for line in sys.stdin:
        request = json.loads(line)
        if request['do'] == 'start':
            answer(pid=start(**request))
        else:
            answer(status=wait(**request))


def answer(**content) -> None:
    print(json.dumps(content), file=sys.__stdout__, flush=True)


def start(argv: list[str], env: dict[str, str], log: str, **_) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setsid()
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.update(env)
        sys.argv = [str(ROOT / argv[0]), *argv[1:]]
        runpy.run_path(sys.argv[0], run_name='__main__')
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(pid: int, seconds: float, **_) -> int | None:
    """Exit status, minus the signal that killed it, or None if it still runs."""
    end = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(0.01)


if __name__ == '__main__':
    main()

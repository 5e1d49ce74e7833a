"""Starts tools as processes of their own without importing everything anew each time.

``python fork_server.py`` imports what the tools need and then, for every line of JSON on its
standard input, forks (``start``: argv, env, cwd, out, err) or waits (``wait``: pid, seconds). What
a fork runs is the tool's file as ``python tools/...`` does.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Process:
    """A tool at work."""

    server: 'ForkServer'
    pid: int
    log: Path
    status: int | None = None

    def wait(self, seconds: float = 120) -> int | None:
        """Its exit status, minus the signal that killed it; None if it still runs."""
        if self.status is None:
            self.status = self.server.ask(do='wait', pid=self.pid, seconds=seconds)['status']
        return self.status

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to it and its workers."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass

    @property
    def output(self) -> str:
        return self.log.read_text()


class ForkServer:
    def __init__(self, *what: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, *what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, 'OMP_NUM_THREADS': '1'},
        )
        self._answer()

    def start(
        self, *argv: object, log: Path, errors: Path | None = None, cwd: Path = ROOT, **env: str
    ) -> Process:
        """Run a tool in this process's environment and ``env``; what it prints goes to ``log``.

        Args:
            *argv: Of the tool, from its file on.
            log: For both streams.
            errors: For standard error.
            cwd: Where to.
            **env: Variables.
        """
        pid = self.ask(
            do='start',
            argv=[str(ROOT / argv[0]), *map(str, argv[1:])],
            env={**os.environ, 'OMP_NUM_THREADS': '1', **env},
            cwd=str(cwd),
            out=str(log),
            err=str(errors or log),
        )['pid']
        return Process(self, pid, log)

    def run(self, *argv: object, log: Path, **env: str) -> Process:
        """Run a tool to its end, which has to be a good one."""
        process = self.start(*argv, log=log, **env)
        assert process.wait() == 0, process.output
        return process

    def ask(self, **request) -> dict:
        self.process.stdin.write(json.dumps(request) + '\n')
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict:
        while True:
            line = self.process.stdout.readline()
            if line.startswith('{'):
                return json.loads(line)
            assert line, 'the fork server ended'

    def close(self) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:  # at the end of an interpreter, on a busy machine
            self.process.kill()
            self.process.wait()


def main() -> None:
    """Serve."""
    sys.path[0] = str(ROOT)  # not this file's folder
    from hsakd.utils.third_party import import_mmdet, import_quietly

    if 'detection' in sys.argv:
        import_mmdet()
    import_quietly('mmpretrain.engine')
    import_quietly('tensorboard')
    if 'packages' not in sys.argv:  # those of others alone, so that a tool has to import ours
        import hsakd.apis.running
        import hsakd.models  # noqa: F401
    import yapf.yapflib.yapf_api

    # mmengine formats the config for each checkpoint, and collects garbage for each data set.
    yapf.yapflib.yapf_api.FormatCode = lambda text, **_: (text, True)
    gc.freeze()
    del sys.path[0]
    answer(ready=True)
    for line in sys.stdin:
        request = json.loads(line)
        if request['do'] == 'start':
            answer(pid=start(**request))
        else:
            answer(status=wait(**request))


def answer(**content) -> None:
    print(json.dumps(content), file=sys.__stdout__, flush=True)


def start(argv: list[str], env: dict[str, str], cwd: str, out: str, err: str, **_) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setsid()
        os.chdir(cwd)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, path in (1, out), (2, err):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(env)
        sys.argv = argv
        sys.path.insert(0, str(Path(argv[0]).parent))
        runpy.run_path(argv[0], run_name='__main__')
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:  # as an interpreter ends
        threading._shutdown()
        atexit._run_exitfuncs()
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

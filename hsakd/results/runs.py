"""Runs on disk: ``run.json``, which a training writes of itself, and the log of its curves."""

import dataclasses
import itertools
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self, get_args, get_origin, get_type_hints

import numpy as np

from hsakd.utils.config_text import parse_config
from hsakd.utils.errors import DataError
from hsakd.utils.files import write_files

from .names import ConfigName
from .settings import RUNTIME_KEYS, named_checkpoints

RECORD = 'run.json'
_POSITIONS = {'step', 'iter', 'epoch'}
_OF_RUNS = 'work dirs of tools/train.py, or folders of them'


@dataclass(eq=False)
class Run:
    """One training, of one session or of several that resumed each other.

    All but ``folder`` stands in the file ``run.json`` of its work dir.

    Attributes:
        folder: The work dir.
        name: Of its config.
        settings: What can change the outcome, beside the seed, see
            :func:`~hsakd.results.settings.comparable_settings`; also the number of processes
            (``GPUs``) where that is not the one of the name, and settings that were other ones
            before a resumption.
        seed: Of all random numbers.
        processes: How many trained together.
        unit: What the schedule counts, 'epoch' or 'iteration'.
        length: Of the whole schedule.
        done: How much of it was done when the file was written, at a validation or the end.
        validated: Where its last validation was; 0 if none was.
        finished: It was trained to the end of its schedule, and validated where its config asks
            for it.
        metrics: Of the last validation, as logged.
        best: The highest value of each metric over all validations.
        sessions: Names of its folders in the work dir, the newest last.
        seconds: Wall-clock time of all sessions.
        command: That of the last session.
        versions: Of the software, of hsakd in a clone with the commit, and the device.
    """

    folder: Path
    name: str
    settings: dict[str, object]
    seed: int
    processes: int
    unit: str
    length: int
    done: int = 0
    validated: int = 0
    finished: bool = False
    metrics: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    sessions: list[str] = field(default_factory=list)
    seconds: float = 0
    command: str = ''
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a ``run.json``, of a work dir or of one of its sessions.

        Raises:
            DataError: It cannot be read, or is something else.
        """
        try:
            content = json.loads(path.read_text())
            run = cls(path.parent, **content)
            for key, hint in get_type_hints(cls).items():
                if not _fits(getattr(run, key), hint):
                    raise TypeError(f'{key}={getattr(run, key)!r}')
            if run.unit not in ('epoch', 'iteration') or not run.sessions:
                raise ValueError(f'unit={run.unit!r} and sessions={run.sessions}')
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise DataError.expected(
                repr(str(path)), 'the record that tools/train.py writes', error
            ) from error
        run.settings = {  # records of before val_interval was no setting have it
            key: value
            for key, value in run.settings.items()
            if key.rpartition('.')[2] not in RUNTIME_KEYS
        }
        if path.parent.name == run.sessions[-1]:  # put there when another training began
            run.folder = path.parents[1]
        return run

    @classmethod
    def of(cls, work_dir: Path) -> Self | None:
        """The last run of a work dir; None where nothing is recorded."""
        path = work_dir / RECORD
        return cls.read(path) if path.is_file() else None

    def write(self) -> None:
        """Write ``run.json`` whole or not at all.

        Raises:
            UserError: The folder cannot be written to.
        """
        write_files({self.folder / RECORD: self.content().encode()}, force=True)

    def content(self) -> str:
        """The text of ``run.json``."""
        content = {key: value for key, value in vars(self).items() if key in _FIELDS}
        return json.dumps(content, indent=2) + '\n'

    @property
    def session(self) -> Path:
        """Folder of its last session, named by the time."""
        return self.folder / self.sessions[-1]

    @property
    def checkpoint(self) -> Path:
        """What it ends with."""
        return self.folder / f'{"epoch" if self.unit == "epoch" else "iter"}_{self.length}.pth'

    @property
    def progress(self) -> str:
        """How far the run came, as in '12 / 240 epochs'."""
        never = '' if self.validated else ', never validated'
        return f'{self.done} / {self.length} {self.unit}s{never}'

    @property
    def origins(self) -> list['Run']:
        """The runs that gave the checkpoints it started from, and those behind them.

        They are known where the checkpoints still lie beside the records of these runs.
        """
        found, ahead = {self.folder.resolve(): self}, [self]
        while ahead:
            run = ahead.pop()
            files = [run.folder / name / 'vis_data' / 'config.py' for name in run.sessions]
            for file in filter(Path.is_file, files):  # a resumed one loads its own checkpoint
                for _, checkpoint in named_checkpoints(parse_config(file.read_text()).to_dict()):
                    folder = Path(checkpoint).parent
                    origin = Run.of(folder) if folder.name else None  # 'random' has no folder
                    if origin and folder.resolve() not in found:
                        found[folder.resolve()] = origin
                        ahead.append(origin)
        return list(found.values())[1:]

    @property
    def frozen_teacher(self) -> bool:
        """Whether its teacher has a frozen backbone and was trained to the end."""
        teacher, _, stage = str(self.settings.get('model.teacher_ckpt')).partition('/')
        name = ConfigName.parse(teacher)
        frozen = name is not None and name.method == 'hsakd-teacher-frozen'
        return frozen and stage == f'epoch_{name.length}'

    def final(self, key: str) -> float | None:
        """A metric at the end of a finished run, in percent; None if it was not measured there."""
        if not (self.finished and self.validated >= self.length and key in self.metrics):
            return None
        return _scale(key) * self.metrics[key]

    def highest(self, key: str) -> float:
        """The highest value of a metric over the validations, in percent; NaN if all were."""
        return _scale(key) * self.best.get(key, math.nan)

    def curve(self, key: str) -> dict[int, float]:
        """Means of ``key`` by epoch, or its values by iteration; average precision in percent."""
        values: dict[int, list[float]] = {}
        for at, record in self._positions():
            if isinstance(record.get(key), int | float):
                values.setdefault(at, []).append(_scale(key) * record[key])
        return {at: float(np.mean(values[at])) for at in sorted(values)}

    def summary(self) -> list[dict[str, float]]:
        """Its log with one record an epoch (iteration), the mean of those that there were."""
        logged = {}
        for at, record in self._positions():
            logged.setdefault(at, []).append(record)
        return [
            {
                key: float(np.mean([r[key] for r in records if key in r]))
                for key in dict.fromkeys(key for r in records for key in r)
                if key not in _POSITIONS
            }
            | {'epoch' if self.unit == 'epoch' else 'iter': at, 'step': at}
            for at, records in logged.items()
        ]

    @property
    def keys(self) -> set[str]:
        """All that was logged."""
        return {key for record in self.records for key in record} - _POSITIONS

    @cached_property
    def records(self) -> list[dict[str, float]]:
        """Records of all sessions, without those of what was trained again."""
        records: list[dict[str, float]] = []
        for session in self.sessions:
            path = self.folder / session / 'vis_data' / 'scalars.json'
            later = read_scalars(path) if path.is_file() else []
            start = next((record['iter'] for record in later if 'iter' in record), np.inf)
            earlier = itertools.takewhile(lambda r, start=start: r.get('iter', 0) < start, records)
            records = [*earlier, *later]
        return records

    def _positions(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Records with their epoch or iteration, in which the schedule counts."""
        iteration = 0
        for record in self.records:
            iteration = record.get('iter', iteration)
            if self.unit == 'epoch':
                yield record.get('epoch', record['step']), record
            else:  # mmengine's LoggerHook may count validations by epoch here too
                yield max(record['step'], iteration), record


def _fits(value: object, hint: type) -> bool:
    """Whether a value, and what it holds, is of a type as in ``dict[str, float]``."""
    kind = get_origin(hint) or hint
    if isinstance(value, bool) or not isinstance(value, int | float if kind is float else kind):
        return isinstance(value, bool) and kind in (bool, object)
    items = value.values() if kind is dict else value if kind is list else ()
    return all(_fits(item, get_args(hint)[-1]) for item in items)


_FIELDS = [entry.name for entry in dataclasses.fields(Run) if entry.name != 'folder']


@dataclass
class LeftOut:
    """A training whose figures are no result.

    Attributes:
        folder: Its work dir, or the folder of its last session.
        reason: Why.
        name: Of its config; empty if it is not known.
        seed: Of the same, where it has several.
    """

    folder: Path
    reason: str
    name: str = ''
    seed: int | None = None

    @classmethod
    def of(cls, run: Run, reason: str) -> Self:
        """Leave out a run."""
        return cls(run.session, reason, run.name, run.seed)

    def __str__(self) -> str:
        seed = '' if self.seed is None else f'seed {self.seed}, '
        name = f'{self.name}, {seed}' if self.name else ''
        return f'{name}{shown_path(self.folder)}: {self.reason}'


def shown_path(path: Path) -> str:
    """A path as short as it can be from the current folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def find_runs(folders: Iterable[str | Path]) -> tuple[list[Run], list[LeftOut]]:
    """All trainings in folders, each a work dir or a folder with work dirs at any depth.

    Of a work dir in which several trainings began anew, each is one.

    Raises:
        DataError: There is no folder, no run in one, or a file of a run is broken.
    """
    runs: dict[Path, Run] = {}
    left_out: dict[Path, LeftOut] = {}
    for given in folders:
        folder = Path(given).absolute()
        DataError.check(folder.is_dir(), repr(str(given)), _OF_RUNS, 'no such folder')
        found = {file: Run.read(file) for file in sorted(folder.rglob(RECORD))}
        known = {run.folder for run in found.values()}
        logged = {file.parents[2] for file in folder.rglob('vis_data/scalars.json')}
        DataError.check(found or logged, repr(str(given)), _OF_RUNS, f'no {RECORD} in it')
        runs |= {file.resolve(): run for file, run in found.items() if file.resolve() not in runs}
        left_out |= {
            work_dir.resolve(): LeftOut(work_dir, f'no {RECORD}')
            for work_dir in sorted(logged - known)
        }
    return list(runs.values()), list(left_out.values())


def archived(runs: Iterable[Run], folders: Sequence[str | Path]) -> dict[Path, bytes]:
    """What is left of runs without their checkpoints: records and curves, for tables and pictures.

    Args:
        runs: As :func:`find_runs` finds them.
        folders: Those that were looked through; paths count from there, or from the innermost
            folder that holds all of them.

    Returns:
        Content by path.
    """
    files = {}
    root = os.path.commonpath([Path(folder).absolute() for folder in folders])
    for run in runs:
        folder = run.folder.relative_to(root)
        record = dataclasses.replace(run, sessions=run.sessions[-1:]).content()
        lines = ''.join(f'{json.dumps(entry)}\n' for entry in run.summary())
        files[folder / RECORD] = record.encode()
        files[folder / run.sessions[-1] / 'vis_data/scalars.json'] = lines.encode()
    return files


def read_scalars(path: Path) -> list[dict[str, float]]:
    """Records of mmengine's ``vis_data/scalars.json``, also of one that is being written.

    Raises:
        DataError: The file cannot be read, or a line, other than a last one that is cut, is broken.
    """
    records = []
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise DataError.expected(repr(str(path)), 'a log', error.strerror) from error
    for number, line in enumerate(lines, 1):
        if not line.endswith(b'\n'):
            break
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        where = f'{str(path)!r}, line {number}'
        is_record = isinstance(record, dict) and 'step' in record
        DataError.check(is_record, where, 'a JSON object with "step"', repr(line[:40]))
        records.append(record)
    return records


def _scale(key: str) -> float:
    """Detectors log average precision as a fraction, classifiers percent of accuracy."""
    return 100 if re.search(r'/\w*AP(\d+|_\w+)?$', key) else 1

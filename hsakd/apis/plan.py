"""Which trainings a config asks for: what it needs, itself, and the plain networks beside it."""

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from hsakd.results.names import ConfigName, find_beside
from hsakd.results.settings import named_checkpoints, names_checkpoint
from hsakd.utils.errors import ConfigError, UserError
from hsakd.utils.networks import network_configs

from .running import load_config
from .training_runs import TrainingRun, is_done, last_checkpoint, load_with_options

#: A name that says what a config trains.
_EXAMPLE = 'METHOD_TEACHER_STUDENT_1xb64-240e_DATA'
#: Where configs expect the work dirs of others, and where they are by default.
WORK_DIRS = Path('work_dirs')


class Plan:
    """The runs that are to be trained for some configs.

    The checkpoints that a config names (``model.teacher_ckpt``, any other key ending in ``_ckpt``,
    ``load_from``, ``pretrained_backbone``) and that are not there come from the configs of their
    folders' names.

    Args:
        configs: Files.
        seeds: Train configs and baselines once a seed, in WORK_DIRS/CONFIG_NAME/seed-SEED; else
            once in WORK_DIRS/CONFIG_NAME.
        work_dirs: Folder of all work dirs.
        options: ``--cfg-options`` as typed, for every training; those that name checkpoints and
            others of ``model.*`` for ``configs`` alone.
        baselines: Train the plain networks too.
        trust_checkpoint: Trust what ``configs`` start from.

    Attributes:
        needed: Runs that give the checkpoints which others name, in the order of training.
        students: Those of the given configs, seed by seed.
        baselines: Those of their networks by themselves.
        runs: All, in the order of training: what is needed, then seed by seed, so that what an
            interruption leaves can be compared.

    Raises:
        ConfigError: A checkpoint is not there and no config gives it, or an option cannot be.
    """

    def __init__(
        self,
        configs: Sequence[Path],
        seeds: Sequence[int] | None = None,
        work_dirs: Path = WORK_DIRS,
        options: Sequence[str] = (),
        baselines: bool = True,
        trust_checkpoint: bool = False,
    ) -> None:
        # --cfg-options, which name checkpoints in it, would take it for a list.
        where, expected = f'--work-dirs={str(work_dirs)!r}', 'a path without commas'
        ConfigError.check(',' not in str(work_dirs), where, expected, 'one with some')
        refuse_options(options, dict(work_dir='--work-dirs, the folder of all'))
        self.work_dirs, self.options, self.trust = work_dirs, options, trust_checkpoint
        plain = [path for c in configs if baselines for path in _plain_configs(c)]
        plain = list({path.resolve(): path for path in plain}.values())
        resolved = {path.resolve() for path in plain}
        # The plain network of another given config is its baseline, to which model.* are not given.
        self.given = [config for config in configs if config.resolve() not in resolved]
        self._needed: dict[Path, TrainingRun] = {}
        needs = {config: self._need(config) for config in [*self.given, *plain]}
        starts = [run for run in self._needed.values() if seeds and run.is_start]
        self.needed = [run for run in self._needed.values() if run not in starts]
        self.students: list[TrainingRun] = []
        self.baselines: list[TrainingRun] = []
        for seed in seeds or [None]:
            for config, needed in needs.items():
                runs = self.students if config in self.given else self.baselines
                runs.append(self._run(config, seed, needed))
        position = {seed: number for number, seed in enumerate(seeds or [None])}
        started = [need for run in self.students for need in run.needs if need.is_start and seeds]
        seeded = [*started, *self.students, *self.baselines]
        self.runs = [*self.needed, *sorted(seeded, key=lambda run: position[run.seed])]

    def _run(self, config: Path, seed: int | None, needs: Sequence[TrainingRun]) -> TrainingRun:
        options = self._options(config, config in self.given)
        content = load_with_options(config, options)
        work_dir = Path(content.get('work_dir') or self.work_dirs / config.stem)
        if seed is not None:
            work_dir /= f'seed-{seed}'
            options = [*options, f'randomness.seed={seed}']
            # A student that starts from what a first phase left starts from that of its own seed.
            needs = [_of_seed(need, seed) if need.is_start else need for need in needs]
            for need in needs:
                if need.is_start:
                    options = [o for o in options if not o.startswith('load_from=')]
                    options.append(f'load_from={need.checkpoint}')
        checkpoint = last_checkpoint(content, work_dir)
        return TrainingRun(config, checkpoint, options, self.trust, seed, needs)

    def _options(self, config: Path, is_given: bool) -> list[str]:
        """What is given for ``config``, and where the checkpoints are that it names."""

        def is_own(option: str) -> bool:
            key = option.partition('=')[0]
            return key.startswith('model.') or names_checkpoint(key)

        given = [o for o in self.options if is_given or not is_own(o)]
        if self.work_dirs == WORK_DIRS:
            return given
        keys = {option.partition('=')[0] for option in given}
        moved = [
            f'{key}={self.work_dirs / Path(path).relative_to(WORK_DIRS)}'
            for key, path in _checkpoints(config, given)
            if key not in keys and Path(path).is_relative_to(WORK_DIRS)
        ]
        return [*given, *moved]

    def _need(self, config: Path, on_the_way: Sequence[str] = ()) -> list[TrainingRun]:
        """The runs that give the checkpoints which ``config`` names; adds those they need first."""
        needs, is_given = [], not on_the_way and config in self.given
        for key, path in _checkpoints(config, self._options(config, is_given)):
            checkpoint, configs = Path(path), _configs_of(path, config)
            there = checkpoint.is_file()
            if checkpoint in self._needed:
                needs.append(self._needed[checkpoint])
                continue
            if there and len(configs) != 1:  # from elsewhere, and taken as it is
                continue
            name = checkpoint.parent.name
            where = f'{key}={path!r} of {config}'
            one = f'a file, e.g. --cfg-options {key}=FILE, or one config {name}.py to train it from'
            ConfigError.check(len(configs) == 1, where, one, f'no file and {len(configs)} configs')
            needed = Path(os.path.relpath(configs[0]))
            options = self._options(needed, False)
            expected = last_checkpoint(load_with_options(needed, options), checkpoint.parent)
            ok = there or expected.name == checkpoint.name
            shown = shlex.quote(str(expected))
            ends = f'{expected}, with which {needed} ends, e.g. --cfg-options {key}={shown}'
            ConfigError.check(ok, where, ends, checkpoint.name)
            way = [*on_the_way, os.path.relpath(config)]
            circle = f'that of {" -> ".join([*way, str(needed)])}'
            ConfigError.check(str(needed) not in way, where, 'no circle of checkpoints', circle)
            run = TrainingRun(
                needed, checkpoint, options, is_start=key == 'load_from' and not on_the_way
            )
            chosen = is_given and f'{key}={path}' in self.options
            if there and chosen and not _is_as_asked_for(run):
                continue  # of the user's choice, however it was trained
            if not there:
                run.needs = self._need(needed, way)
            self._needed[checkpoint] = run
            needs.append(run)
        return needs


def refuse_options(options: Sequence[str], instead: dict[str, str]) -> None:
    """Check that ``--cfg-options`` leave out what a tool sets itself.

    Args:
        options: As typed.
        instead: What to use, by key.

    Raises:
        ConfigError: One is of those keys.
    """
    for option in options:
        key = option.partition('=')[0]
        ConfigError.check(key not in instead, f'--cfg-options {key}', instead.get(key), option)


def _checkpoints(config: Path, options: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Keys and paths of the checkpoints that a config names and that are or can be files."""
    for key, path in named_checkpoints(load_with_options(config, options).to_dict()):
        if key.endswith('_ckpt') or Path(path).is_file() or _configs_of(path, config):
            yield key, path


def _configs_of(checkpoint: str, config: Path) -> list[Path]:
    """The configs beside ``config`` that train a checkpoint, by the name of its folder."""
    return find_beside(config, Path(checkpoint).parent.name)


def _plain_configs(config: Path) -> list[Path]:
    """Those of the networks that ``config`` distills; a line says where there are none."""
    name = ConfigName.parse(config.stem)
    found = {}
    model = load_config(str(config)).model
    for key in network_configs(model):
        by_labels = 'BranchedClassifier' in model['type'] and name and name.method
        if key == 'model' and not by_labels:  # a plain network, or a teacher
            continue
        number = key.rpartition('.')[2]
        plain = name and name.baseline(int(number) if number.isdigit() else None)
        files = find_beside(config, plain)[:1] if plain else []
        found |= dict.fromkeys(files)
        if not files:
            fitting = f'{plain}.py beside it' if plain else f'a name such as {_EXAMPLE}.py'
            print(
                f'{config}: no plain network of {key} is trained beside it: expected {fitting}, '
                f'got {"no such file" if plain else repr(config.stem)}',
                file=sys.stderr,
            )
    return list(found)


def _of_seed(run: TrainingRun, seed: int) -> TrainingRun:
    checkpoint = run.work_dir / f'seed-{seed}' / run.checkpoint.name
    options = [*run.options, f'randomness.seed={seed}']
    return replace(run, checkpoint=checkpoint, options=options, seed=seed)


def _is_as_asked_for(run: TrainingRun) -> bool:
    try:
        return is_done(run)
    except UserError:
        return False

#!/usr/bin/env python
"""From a config to a published student, or to a detector: whatever it needs is trained first.

The checkpoints that the config names (model.teacher_ckpt, any other key ending in _ckpt, load_from,
pretrained_backbone) and that are not there are trained from the configs of their folders' names;
then come the config itself and, for comparison, the plain baseline of the same network. At the end
the student is published and a table shows what distillation gained. A detector is not published:
tools/test.py and predict.py take its checkpoint. Run it again after an interruption: what is done
is skipped, what was under way goes on from its last checkpoint.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hsakd.utils.cli import add_trust_option, check_out_folder, run_tool  # noqa: E402
from hsakd.utils.errors import ConfigError, UserError  # noqa: E402

if TYPE_CHECKING:
    from hsakd.apis.training_runs import TrainingRun

#: Where configs expect the work dirs of others, and where they are by default.
WORK_DIRS = Path('work_dirs')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'config', type=Path, help='of a student (offline, online), or of whatever comes after one'
    )
    parser.add_argument(
        '--seeds',
        nargs='+',
        type=int,
        help='train student and baseline once a seed, in work_dirs/CONFIG_NAME/seed-SEED; what '
        'they need is trained once, and the student of the first seed is published (default: '
        'once, with the seed of the configs)',
    )
    parser.add_argument(
        '--no-baseline', action='store_true', help='leave out the plain network for comparison'
    )
    parser.add_argument(
        '--work-dirs',
        type=Path,
        default=WORK_DIRS,
        metavar='DIR',
        help='folder for the work dirs of all trainings (default: %(default)s)',
    )
    parser.add_argument(
        '--out',
        default='models/',
        help='PREFIX of the published files, or a folder (default: %(default)s)',
    )
    parser.add_argument('--onnx', action='store_true', help='publish an ONNX model too')
    parser.add_argument(
        '--dry-run', action='store_true', help='show the commands that are left, and run nothing'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='for every training, e.g. train_dataloader.num_workers=8; those that name checkpoints '
        'and others of model.* for the given config alone, e.g. model.teacher_ckpt=FILE',
    )
    add_trust_option(parser)
    args = parser.parse_args()
    args.seeds = args.seeds and list(dict.fromkeys(args.seeds))
    return args


class Plan:
    """The runs that are to be trained.

    Attributes:
        needed: Runs that give the checkpoints which others name, in the order of training.
        students: Those of the given config.
        baselines: Those of its networks by themselves.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        from hsakd.results.names import configs_around

        self.args = args
        self.configs = configs_around(args.config)
        self._needed: dict[Path, TrainingRun] = {}
        self._need(args.config)
        self.needed = list(self._needed.values())
        self.students = list(self._seeded(args.config))
        plain = [] if args.no_baseline else self._plain_configs()
        self.baselines = [run for config in plain for run in self._seeded(config)]

    def _options(self, config: Path) -> list[str]:
        """What is given for ``config``, and where the checkpoints are that it names."""
        from hsakd.results.settings import names_checkpoint

        def is_own(option: str) -> bool:
            key = option.partition('=')[0]
            return key.startswith('model.') or names_checkpoint(key)

        given = [o for o in self.args.cfg_options if config == self.args.config or not is_own(o)]
        keys = {option.partition('=')[0] for option in given}
        moved = [
            f'{key}={self.args.work_dirs / Path(path).relative_to(WORK_DIRS)}'
            for key, path in self._checkpoints(config, given)
            if key not in keys and Path(path).is_relative_to(WORK_DIRS)
        ]
        if self.args.work_dirs == WORK_DIRS:
            return given
        return [*given, *moved]

    def _checkpoints(self, config: Path, options: list[str]) -> Iterator[tuple[str, str]]:
        from hsakd.apis.training_runs import load_with_options

        for key, path in _named_in(load_with_options(config, options).to_dict()):
            if key.endswith('_ckpt') or Path(path).is_file() or self._configs_of(path):
                yield key, path

    def _configs_of(self, checkpoint: str) -> list[Path]:
        from hsakd.results.names import find_configs

        return find_configs(Path(checkpoint).parent.name, self.configs)

    def _seeded(self, config: Path) -> Iterator['TrainingRun']:
        """One run a seed."""
        from hsakd.apis.training_runs import TrainingRun, last_checkpoint, load_with_options

        options, trust = self._options(config), self.args.trust_checkpoint
        content = load_with_options(config, options)
        work_dir = Path(content.get('work_dir') or self.args.work_dirs / config.stem)
        if self.args.seeds is None:
            yield TrainingRun(config, last_checkpoint(content, work_dir), options, trust)
        for seed in self.args.seeds or ():
            checkpoint = last_checkpoint(content, work_dir / f'seed-{seed}')
            yield TrainingRun(config, checkpoint, [*options, f'randomness.seed={seed}'], trust)

    def _need(self, config: Path, on_the_way: Sequence[str] = ()) -> None:
        """Add the runs that give the checkpoints which ``config`` names, those they need first."""
        from hsakd.apis.training_runs import TrainingRun, last_checkpoint, load_with_options

        for key, path in self._checkpoints(config, self._options(config)):
            checkpoint, configs = Path(path), self._configs_of(path)
            if checkpoint in self._needed:
                continue
            there = checkpoint.is_file()
            if there and len(configs) != 1:  # from elsewhere, and taken as it is
                continue
            name = checkpoint.parent.name
            where = f'{key}={path!r} of {config}'
            one = f'a file, e.g. --cfg-options {key}=FILE, or one config {name}.py to train it from'
            ConfigError.check(len(configs) == 1, where, one, f'no file and {len(configs)} configs')
            needed = Path(os.path.relpath(configs[0]))
            options = self._options(needed)
            expected = last_checkpoint(load_with_options(needed, options), checkpoint.parent)
            ok = there or expected.name == checkpoint.name
            shown = shlex.quote(str(expected))
            ends = f'{expected}, with which {needed} ends, e.g. --cfg-options {key}={shown}'
            ConfigError.check(ok, where, ends, checkpoint.name)
            way = [*on_the_way, os.path.relpath(config)]
            circle = f'that of {" -> ".join([*way, str(needed)])}'
            ConfigError.check(str(needed) not in way, where, 'no circle of checkpoints', circle)
            run = TrainingRun(needed, checkpoint, options)
            chosen = config == self.args.config and f'{key}={path}' in self.args.cfg_options
            if there and chosen and not _is_as_asked_for(run):
                continue  # of the user's choice, however it was trained
            if not there:
                self._need(needed, way)
            self._needed[checkpoint] = run

    def _plain_configs(self) -> list[Path]:
        """Those of the networks that ``config`` distills, where there are any."""
        from hsakd.apis.running import load_config
        from hsakd.results.names import ConfigName, find_configs
        from hsakd.utils.networks import network_configs

        name = ConfigName.parse(self.args.config.stem)
        found = {}
        for key in network_configs(load_config(str(self.args.config)).model):
            if name and key != 'model':  # 'model.student', or 'model.networks.1'
                number = key.rpartition('.')[2]
                baseline = name.baseline(int(number) if number.isdigit() else None)
                found |= dict.fromkeys(find_configs(baseline, self.configs)[:1] if baseline else ())
        return list(found)


def _named_in(value: object, key: str = '') -> Iterator[tuple[str, str]]:
    """Keys and values of the checkpoints that a config, or a part of it, names at any depth."""
    from hsakd.results.settings import names_checkpoint

    if names_checkpoint(key) and value is not None and not isinstance(value, Mapping):
        ConfigError.check(isinstance(value, str), key, 'the path of a checkpoint', repr(value))
        yield key, value
    elif isinstance(value, Mapping | list | tuple):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, item in items:
            yield from _named_in(item, f'{key}.{name}' if key else str(name))


def _is_as_asked_for(run: 'TrainingRun') -> bool:
    from hsakd.apis.training_runs import is_done

    try:
        return is_done(run)
    except UserError:
        return False


def main() -> None:
    """Plan, train what is left, publish, and compare."""
    args = parse_args()
    own = any(option.startswith('work_dir=') for option in args.cfg_options)
    ConfigError.check(
        not own, '--cfg-options work_dir', '--work-dirs, the folder of all', 'work_dir='
    )
    from hsakd.apis.running import is_detection
    from hsakd.apis.training_runs import call, load_with_options, train
    from hsakd.results.runs import Run

    # --cfg-options, which name checkpoints in it, would take it for a list.
    where, expected = f'--work-dirs={str(args.work_dirs)!r}', 'a path without commas'
    ConfigError.check(',' not in str(args.work_dirs), where, expected, 'one with some')
    check_out_folder(Path(args.out).parent, f'--out={args.out!r}')
    plan = Plan(args)
    is_detector = is_detection(load_with_options(args.config, args.cfg_options))
    where = f'config {str(args.config)!r}'
    ConfigError.check(
        not (is_detector and args.onnx), where, 'a classifier with --onnx', 'a detector'
    )
    runs = [*plan.needed, *plan.students, *plan.baselines]
    for position, run in enumerate(runs, 1):
        train(run, f'[{position}/{len(runs)}] {run.config.stem}', args.dry_run)
    if args.dry_run:
        return
    if is_detector:
        measured = [*Run.of(plan.students[0].work_dir).metrics]
        metric = next((key for key in measured if 'mAP' in key), 'accuracy/top1')
        results = [*(str(run.work_dir) for run in plan.students), '--metric', metric]
        call('analysis_tools/collect_results.py', results, 'results')
        shown = shlex.quote(str(plan.students[0].checkpoint))
        print(f'try it with  python tools/predict.py IMAGES --model {shown}')
        return
    publish = [str(plan.students[0].checkpoint), args.out, *(['--onnx'] if args.onnx else [])]
    call('model_converters/publish_student.py', publish, 'publish')
    call('analysis_tools/collect_results.py', [str(run.work_dir) for run in runs], 'results')


if __name__ == '__main__':
    run_tool(main)

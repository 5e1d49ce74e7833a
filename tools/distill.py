#!/usr/bin/env python
"""From a config to a published student: whatever it needs is trained first.

The checkpoints that the config names (model.teacher_ckpt, model.backbone_ckpt) and that are not
there are trained from the configs of their folders' names; then come the config itself and, for
comparison, the plain baseline of the same network. At the end the student is published and a table
shows what distillation gained. Run it again after an interruption: what is done is skipped, what
was under way goes on from its last checkpoint.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hsakd.utils.cli import run_tool  # noqa: E402
from hsakd.utils.errors import ConfigError, UserError  # noqa: E402

if TYPE_CHECKING:
    from mmengine.config import Config

    from hsakd.visualization.work_dirs import LoggedRun


@dataclass
class Run:
    """One training: its config, where its last checkpoint will be, and options of its own."""

    config: Path
    checkpoint: Path
    options: list[str] = field(default_factory=list)

    @property
    def work_dir(self) -> Path:
        """Where it writes."""
        return self.checkpoint.parent


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
        help='for every training, e.g. train_dataloader.num_workers=8; those of model.* for the '
        'given config alone, e.g. model.teacher_ckpt=FILE',
    )
    return parser.parse_args()


def plan(args: argparse.Namespace) -> tuple[list[Run], list[Run], list[Run]]:
    """What is needed first, in order; the students; and their plain baselines."""
    students = list(_seeded(args.config, args))
    needed = {}
    _needed(args.config, args, needed)
    baseline = None if args.no_baseline else _baseline(args.config)
    baselines = list(_seeded(baseline, args)) if baseline else []
    return list(needed.values()), students, baselines


def _options(config: Path, args: argparse.Namespace) -> list[str]:
    """The part of --cfg-options that is for ``config``."""
    everywhere = [option for option in args.cfg_options if not option.startswith('model.')]
    return args.cfg_options if config == args.config else everywhere


def _load(config: Path, args: argparse.Namespace, more: Sequence[str] = ()) -> 'Config':
    from mmengine.config import DictAction

    from hsakd.apis.running import load_config

    options = [*_options(config, args), *more]
    if not options:
        return load_config(str(config))
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    try:
        parsed = parser.parse_args(['--cfg-options', *options])
    except ValueError as error:
        raise ConfigError(
            f'--cfg-options {shlex.join(options)}: accepted are KEY=VALUE ...'
        ) from error
    return load_config(str(config), parsed.cfg_options)


def _last_checkpoint(config: 'Config', work_dir: Path) -> Path:
    """The checkpoint that a training ends with."""
    by_epoch = config.train_cfg.get('by_epoch', True)
    length = config.train_cfg.max_epochs if by_epoch else config.train_cfg.max_iters
    return work_dir / f'{"epoch" if by_epoch else "iter"}_{length}.pth'


def _seeded(config: Path, args: argparse.Namespace) -> Iterator[Run]:
    """One run a seed."""
    content = _load(config, args)
    work_dir = Path(content.get('work_dir') or Path('work_dirs') / config.stem)
    if args.seeds is None:
        yield Run(config, _last_checkpoint(content, work_dir))
    for seed in args.seeds or ():
        checkpoint = _last_checkpoint(content, work_dir / f'seed-{seed}')
        yield Run(config, checkpoint, [f'randomness.seed={seed}'])


def _needed(config: Path, args: argparse.Namespace, found: dict[Path, Run]) -> None:
    """Add the runs that give the checkpoints which ``config`` names, those they need first."""
    model = _load(config, args).model
    for key in ('teacher_ckpt', 'backbone_ckpt'):
        checkpoint = model.get(key)
        if checkpoint is None:
            continue
        if not isinstance(checkpoint, str):
            raise ConfigError(f'model.{key}={checkpoint!r}: accepted is the path of a checkpoint')
        if Path(checkpoint) in found:
            continue
        name = Path(checkpoint).parent.name
        configs = sorted(config.resolve().parents[1].glob(f'*/{name}.py'))
        there = Path(checkpoint).is_file()
        if there and len(configs) != 1:  # from elsewhere, and taken as it is
            continue
        if len(configs) != 1:
            raise ConfigError(
                f'model.{key}={checkpoint!r} of {config}: no such file, and '
                f'{len(configs)} configs named {name}.py beside it to train it from; accepted are '
                f'a checkpoint, e.g. --cfg-options model.{key}=FILE, and one such config'
            )
        path = Path(os.path.relpath(configs[0]))
        expected = _last_checkpoint(_load(path, args), Path(checkpoint).parent)
        if not there and expected.name != Path(checkpoint).name:
            raise ConfigError(
                f'model.{key}={checkpoint!r} of {config}: {path} ends with {expected.name}; '
                f'accepted is e.g. --cfg-options model.{key}={expected}'
            )
        run = Run(path, Path(checkpoint))
        named = config == args.config and f'model.{key}={checkpoint}' in args.cfg_options
        if there and named and not _is_as_asked_for(run, args):
            continue  # of the user's choice, however it was trained
        if not there:
            _needed(path, args, found)
        found[Path(checkpoint)] = run


def _is_as_asked_for(run: Run, args: argparse.Namespace) -> bool:
    try:
        return is_done(run, args)
    except UserError:
        return False


def _baseline(config: Path) -> Path | None:
    """The config of the plain network that ``config`` distils, where there is one."""
    match = re.fullmatch(r'hsakd-(?:offline_[^_]+|online)_([^_]+_\d+xb.*)', config.stem)
    if not match:
        return None
    return next(iter(config.resolve().parents[1].glob(f'*/{match[1]}.py')), None)


def logged(run: Run) -> 'LoggedRun | None':
    """What the logs in its work dir say of the last training there."""
    from hsakd.visualization import find_runs

    if not any(run.work_dir.glob('*/vis_data/scalars.json')):
        return None
    runs, left_out = find_runs([run.work_dir])
    if not runs:
        raise UserError(f'{run.work_dir}: {left_out[0].reason}; accepted is a folder of one config')
    return runs[-1]


def is_done(run: Run, args: argparse.Namespace) -> bool:
    """Its checkpoint is there, was validated, and is of the settings that are asked for.

    Raises:
        UserError: What is there was trained with other settings.
    """
    from hsakd.visualization.work_dirs import comparable_settings

    there = logged(run)
    if there is None:  # a checkpoint without logs was put there by somebody
        return run.checkpoint.is_file()
    config = _load(run.config, args, run.options).to_dict()
    wanted = comparable_settings(config) | {'randomness.seed': config['randomness'].get('seed')}
    found = there.settings | {'randomness.seed': there.seed}
    found.pop('GPUs', None)
    differing = sorted(key for key in {*wanted, *found} if wanted.get(key) != found.get(key))
    if differing:
        shown = ', '.join(f'{k} is {found.get(k)!r} and not {wanted.get(k)!r}' for k in differing)
        raise UserError(
            f'{run.work_dir} holds a training with other settings than {run.config} and the '
            f'options ask for: {shown}; accepted are the same settings, and moving the folder away'
        )
    return run.checkpoint.is_file() and there.finished


def train_command(run: Run, args: argparse.Namespace) -> list[str]:
    """Arguments after ``python``."""
    options = [*_options(run.config, args), *run.options]
    resume = (run.work_dir / 'last_checkpoint').is_file()
    return [
        os.path.relpath(ROOT / 'tools' / 'train.py'),
        os.path.relpath(run.config),
        '--work-dir',
        str(run.work_dir),
        *(['--resume'] if resume else []),
        *(['--cfg-options', *options] if options else []),
    ]


def train(run: Run, position: str, args: argparse.Namespace) -> None:
    """Train, unless that was done."""
    if is_done(run, args):
        print(f'[{position}] {run.config.stem}: done, {run.checkpoint}', flush=True)
        return
    command = train_command(run, args)
    print(f'[{position}] {run.config.stem}: python {shlex.join(command)}', flush=True)
    if args.dry_run:
        return
    status = subprocess.run([sys.executable, *command], check=False).returncode
    if status:
        print(f'{run.config.stem} stopped with status {status}', file=sys.stderr)
        sys.exit(status)
    if not is_done(run, args):
        raise UserError(
            f'{run.config.stem} left no {run.checkpoint} or no validation of it: accepted are '
            'configs that save and validate their last epoch'
        )


def publish(run: Run, args: argparse.Namespace) -> None:
    """Publish one student."""
    command = [str(ROOT / 'tools/model_converters/publish_student.py'), str(run.checkpoint)]
    command += [args.out, *(['--onnx'] if args.onnx else [])]
    subprocess.run([sys.executable, *command], check=True)


def main() -> None:
    """Plan, train what is left, publish, and compare."""
    args = parse_args()
    if any(option.startswith('work_dir=') for option in args.cfg_options):
        raise ConfigError(
            '--cfg-options work_dir: each training has a folder of its own, work_dirs/CONFIG_NAME; '
            'accepted are other options, and another current folder'
        )
    needed, students, baselines = plan(args)
    runs = [*needed, *students, *baselines]
    for position, run in enumerate(runs, 1):
        train(run, f'{position}/{len(runs)}', args)
    if args.dry_run:
        return
    publish(students[0], args)
    collect = [str(ROOT / 'tools/analysis_tools/collect_results.py')]
    collect += [str(run.work_dir) for run in runs]
    subprocess.run([sys.executable, *collect], check=True)


if __name__ == '__main__':
    run_tool(main)

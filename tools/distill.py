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
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hsakd.utils.cli import add_trust_option, run_tool  # noqa: E402
from hsakd.utils.errors import ConfigError, UserError  # noqa: E402

if TYPE_CHECKING:
    from hsakd.apis.training_runs import TrainingRun


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
    add_trust_option(parser)
    return parser.parse_args()


def plan(
    args: argparse.Namespace,
) -> tuple[list['TrainingRun'], list['TrainingRun'], list['TrainingRun']]:
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


def _seeded(config: Path, args: argparse.Namespace) -> Iterator['TrainingRun']:
    """One run a seed."""
    from hsakd.apis.training_runs import TrainingRun, last_checkpoint, load_with_options

    options = _options(config, args)
    content = load_with_options(config, options)
    work_dir = Path(content.get('work_dir') or Path('work_dirs') / config.stem)
    if args.seeds is None:
        checkpoint = last_checkpoint(content, work_dir)
        yield TrainingRun(config, checkpoint, options, args.trust_checkpoint)
    for seed in args.seeds or ():
        checkpoint = last_checkpoint(content, work_dir / f'seed-{seed}')
        options_of_seed = [*options, f'randomness.seed={seed}']
        yield TrainingRun(config, checkpoint, options_of_seed, args.trust_checkpoint)


def _needed(config: Path, args: argparse.Namespace, found: dict[Path, 'TrainingRun']) -> None:
    """Add the runs that give the checkpoints which ``config`` names, those they need first."""
    from hsakd.apis.training_runs import TrainingRun, last_checkpoint, load_with_options

    model = load_with_options(config, _options(config, args)).model
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
        options = _options(path, args)
        expected = last_checkpoint(load_with_options(path, options), Path(checkpoint).parent)
        if not there and expected.name != Path(checkpoint).name:
            raise ConfigError(
                f'model.{key}={checkpoint!r} of {config}: {path} ends with {expected.name}; '
                f'accepted is e.g. --cfg-options model.{key}={expected}'
            )
        run = TrainingRun(path, Path(checkpoint), options)
        named = config == args.config and f'model.{key}={checkpoint}' in args.cfg_options
        if there and named and not _is_as_asked_for(run):
            continue  # of the user's choice, however it was trained
        if not there:
            _needed(path, args, found)
        found[Path(checkpoint)] = run


def _is_as_asked_for(run: 'TrainingRun') -> bool:
    from hsakd.apis.training_runs import is_done

    try:
        return is_done(run)
    except UserError:
        return False


def _baseline(config: Path) -> Path | None:
    """The config of the plain network that ``config`` distils, where there is one."""
    match = re.fullmatch(r'hsakd-(?:offline_[^_]+|online)_([^_]+_\d+xb.*)', config.stem)
    if not match:
        return None
    return next(iter(config.resolve().parents[1].glob(f'*/{match[1]}.py')), None)


def publish(run: 'TrainingRun', args: argparse.Namespace) -> None:
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
    from hsakd.apis.training_runs import train

    needed, students, baselines = plan(args)
    runs = [*needed, *students, *baselines]
    for position, run in enumerate(runs, 1):
        train(run, f'[{position}/{len(runs)}] {run.config.stem}', args.dry_run)
    if args.dry_run:
        return
    publish(students[0], args)
    collect = [str(ROOT / 'tools/analysis_tools/collect_results.py')]
    collect += [str(run.work_dir) for run in runs]
    subprocess.run([sys.executable, *collect], check=True)


if __name__ == '__main__':
    run_tool(main)

#!/usr/bin/env python
"""Fine-tune a detector from several initializations, and show which one serves it best.

Every initialization is trained with every seed by the same schedule, in
WORK_DIR/NAME/seed-SEED, and its last checkpoint is tested, in WORK_DIR/NAME/seed-SEED/test. Run it
again after an interruption: what is done is skipped, what was under way goes on from its last
checkpoint. WORK_DIR gets comparison.md and .json, precision_recall.png and predictions.png.
"""

import argparse
import hashlib
import json
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hsakd.utils.cli import (  # noqa: E402
    add_trust_option,
    check_out_folder,
    positive_number,
    run_tool,
)
from hsakd.utils.errors import ConfigError, UserError  # noqa: E402

if TYPE_CHECKING:
    from hsakd.apis.training_runs import TrainingRun

_PREDICTIONS = 'predictions.pth'
#: Options that the tool gives itself.
_OWN_OPTIONS = ('work_dir', 'pretrained_backbone', 'pretrained_sha256', 'randomness.seed')


@dataclass
class FineTuning:
    """One run of the comparison.

    Attributes:
        name: Of its initialization.
        source: What its backbone starts from: a checkpoint, or 'random' without a checksum.
        sha256: Of the checkpoint.
        seed: Of the training.
        run: The training.
    """

    name: str
    source: str
    sha256: str | None
    seed: int
    run: 'TrainingRun'

    @property
    def test_dir(self) -> Path:
        """Where its test writes."""
        return self.run.work_dir / 'test'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', type=Path, help='of a detector, e.g. of configs/detection')
    named = 'checkpoints of backbones, and what to call them; random, alone: training from scratch'
    add('--init', nargs='+', required=True, metavar='NAME=FILE', help=named)
    add('--seeds', nargs='+', type=int, default=[0], help='default: 0')
    add('--work-dir', type=Path, help='default: work_dirs/CONFIG_NAME')
    add('--reference', metavar='NAME', help='what others are compared with (default: the first)')
    add('--images', type=positive_number, default=4, help='rows of predictions.png (default: 4)')
    add('--score-thr', type=float, default=0.5, help='of boxes in predictions.png (default: 0.5)')
    add('--dry-run', action='store_true', help='show the commands that are left, and run nothing')
    options = 'for every training and test, e.g. train_dataloader.batch_size=8'
    add('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help=options)
    add_trust_option(parser)
    args = parser.parse_args()
    args.work_dir = args.work_dir or Path('work_dirs') / args.config.stem
    args.seeds = list(dict.fromkeys(args.seeds))
    return args


def initializations(texts: Sequence[str]) -> dict[str, tuple[str, str | None]]:
    """Parse and check ``--init``: file, or 'random', and checksum by name.

    Raises:
        ConfigError: A value is neither 'random' nor NAME=FILE, or a name is used twice.
        CheckpointError: A file is missing or broken.
    """
    from hsakd.utils.checkpoint import read_checkpoint

    found = {}
    for text in texts:
        name, _, source = text.partition('=')
        named = (
            re.fullmatch(r'\w[\w.+-]*', name) and name != 'random' and source not in ('', 'random')
        )
        accepted = 'random, or NAME=FILE with a NAME of letters, digits and . + - _'
        ConfigError.check(named or text == 'random', '--init', accepted, text)
        ConfigError.check(name not in found, '--init', 'each name once', f'{name} twice')
        sha256 = None
        if text != 'random':
            read_checkpoint(source, f'--init {name}')
            with open(Path(source).expanduser(), 'rb') as file:
                sha256 = hashlib.file_digest(file, 'sha256').hexdigest()
        found[name] = source or text, sha256
    return found


def plan(args: argparse.Namespace) -> list[FineTuning]:
    """All runs, seed by seed, so that what an interruption leaves is balanced.

    Raises:
        UserError: Something would stop a later run: every initialization is tried in the detector,
            and what is there already has to be of these settings.
    """
    from hsakd.apis.running import is_detection
    from hsakd.apis.training_runs import (
        TrainingRun,
        is_done,
        last_checkpoint,
        load_with_options,
        try_backbone,
    )
    from hsakd.utils.config_text import leaf_datasets

    for option in args.cfg_options:
        key = option.partition('=')[0]
        ok = key not in _OWN_OPTIONS
        ConfigError.check(ok, f'--cfg-options {key}', '--work-dir, --init and --seeds', option)
    config = load_with_options(args.config, args.cfg_options)
    scope = f'default_scope={config.get("default_scope")!r}'
    ConfigError.check(is_detection(config), f'config {str(args.config)!r}', 'a detector', scope)
    for key in ('load_from', 'resume'):
        ok = not config.get(key)
        ConfigError.check(ok, key, 'none, since --init says what to start from', config.get(key))
    pipeline = next(leaf_datasets(config.test_dataloader.dataset)).get('pipeline', ())
    steps = [str(step.get('type')).rsplit('.')[-1] for step in pipeline]
    where = 'test_dataloader.dataset.pipeline'
    ConfigError.check('LoadAnnotations' in steps, where, 'LoadAnnotations, for pictures', steps)
    inits = initializations(args.init)
    args.reference = args.reference or next(iter(inits))
    ConfigError.check(args.reference in inits, '--reference', ', '.join(inits), args.reference)
    runs = []
    for seed in args.seeds:
        for name, (source, sha256) in inits.items():
            options = [*args.cfg_options, f'pretrained_backbone={source}']
            if sha256:  # so that runs from another file of the same name are told apart
                options.append(f'pretrained_sha256={sha256[:16]}')
            checkpoint = last_checkpoint(config, args.work_dir / name / f'seed-{seed}')
            options.append(f'randomness.seed={seed}')
            run = TrainingRun(args.config, checkpoint, options, args.trust_checkpoint)
            runs.append(FineTuning(name, source, sha256, seed, run))
    for run in runs[: len(inits)]:
        try_backbone(run.run, f'--init {run.name}', run.source)
    for run in runs:
        is_done(run.run)
    check_out_folder(args.work_dir, '--work-dir')
    return runs


def test(run: FineTuning, label: str, args: argparse.Namespace) -> None:
    """Test the last checkpoint, unless that was done."""
    from hsakd.apis.training_runs import call

    if metrics(run, args) is not None:
        print(f'{label}: tested', flush=True)
        return
    command = [str(args.config), str(run.run.checkpoint), '--work-dir', str(run.test_dir)]
    command += ['--out', str(run.test_dir / _PREDICTIONS)]
    command += ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    call('test.py', command, label, args.dry_run)
    ok = args.dry_run or metrics(run, args) is not None
    UserError.check(ok, label, f'metrics in {run.test_dir}/TIME/TIME.json', 'none')


def metrics(run: FineTuning, args: argparse.Namespace) -> dict[str, float] | None:
    """What its test measured, in percent; None if there is no test of its checkpoint."""
    from hsakd.apis.training_runs import load_with_options, tested_metrics

    config = load_with_options(args.config, args.cfg_options)
    found = tested_metrics(run.test_dir, run.run.checkpoint, config)
    if found is None or not (run.test_dir / _PREDICTIONS).is_file():
        return None
    # COCO's -1: no such boxes
    return {key: round(100 * v, 6) for key, v in found.items() if '/' in key and v >= 0}


def report(runs: Sequence[FineTuning], args: argparse.Namespace) -> None:
    """Show and write what was measured so far."""
    from hsakd.results.paired import lacking, paired_tables
    from hsakd.results.tables import markdown_table
    from hsakd.utils.files import write_files

    inits = {run.name: dict(file=run.source, sha256=run.sha256) for run in runs}
    measured = {name: {} for name in inits}
    for run in runs:
        if (found := metrics(run, args)) is not None:
            measured[run.name][run.seed] = found
    if not any(measured.values()):
        return
    note = lacking(measured, args.seeds)
    rows, differences = paired_tables(measured, args.seeds, args.reference)
    origins = [[name, f'`{i["file"]}`', i['sha256'] or '–'] for name, i in inits.items()]
    parts = [
        f'# {args.config.stem}',
        f'Config: `{args.config}`.',
        f'Changed: `{shlex.join(args.cfg_options)}`.' if args.cfg_options else '',
        'Last checkpoint of each run, on the test set of the config; seeds '
        f'{", ".join(map(str, args.seeds))}.',
        note,
        'In percent, mean ± sample standard deviation over seeds:',
        markdown_table(rows[0], rows[1:], rows[0][:1]),
    ]
    if len(differences) > 1:
        title = f'Difference to {args.reference} with the same seed, percentage points:'
        parts += [title, markdown_table(differences[0], differences[1:], rows[0][:1])]
    columns = ['initialization', 'file', 'SHA-256']
    text = '\n\n'.join(filter(None, [*parts, markdown_table(columns, origins, columns)])) + '\n'
    content = dict(
        config=str(args.config),
        options=args.cfg_options,
        seeds=args.seeds,
        reference=args.reference,
        partial=note or None,
        tables=dict(figures=rows, differences=differences),
        initializations={n: {**init, 'by_seed': measured[n]} for n, init in inits.items()},
    )
    files = {'comparison.md': text, 'comparison.json': json.dumps(content, indent=2) + '\n'}
    write_files({args.work_dir / name: t.encode() for name, t in files.items()}, force=True)
    print(text)


def draw(runs: Sequence[FineTuning], args: argparse.Namespace) -> None:
    """Write the pictures, of the first seed."""
    from hsakd.apis.training_runs import load_with_options
    from hsakd.utils.checkpoint import read_checkpoint
    from hsakd.utils.files import write_files
    from hsakd.visualization.detection import (
        draw_precision_recall,
        draw_predictions,
        precision_recall,
    )

    firsts = [run for run in runs if run.seed == args.seeds[0]]
    checkpoint = read_checkpoint(firsts[0].run.checkpoint, 'checkpoint')
    classes = checkpoint['meta']['dataset_meta']['classes']
    predictions = {
        run.name: read_checkpoint(run.test_dir / _PREDICTIONS, 'predictions') for run in firsts
    }
    evaluator = load_with_options(args.config, args.cfg_options).test_evaluator
    legacy = 'VOCMetric' in str(evaluator)
    curves = {n: precision_recall(found, len(classes), legacy) for n, found in predictions.items()}
    title = f'Test images, seed {args.seeds[0]}'
    lines = draw_precision_recall(curves, classes, f'{title}, IoU 0.5, AP by area')
    boxes = draw_predictions(predictions, classes, args.images, args.score_thr, title)
    pictures = {'precision_recall.png': lines, 'predictions.png': boxes}
    write_files({args.work_dir / name: png for name, png in pictures.items()}, force=True)
    print(f'{args.work_dir}/{", ".join(pictures)}')


def main() -> None:
    """Plan, train and test what is left, and compare."""
    args = parse_args()
    import hsakd  # noqa: F401  registers its types
    from hsakd.apis.training_runs import train
    from hsakd.utils.third_party import import_mmdet

    import_mmdet()
    runs = plan(args)
    try:
        for position, run in enumerate(runs, 1):
            label = f'[{position}/{len(runs)}] {run.name}, seed {run.seed}'
            train(run.run, label, args.dry_run)
            test(run, f'{label}, test', args)
    finally:
        if not args.dry_run:
            report(runs, args)
    if not args.dry_run:
        draw(runs, args)


if __name__ == '__main__':
    run_tool(main)

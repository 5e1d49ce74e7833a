#!/usr/bin/env python
"""Fine-tune a detector from several initialisations, and show which one serves it best.

Every initialisation is trained with every seed by the same schedule, in
WORK_DIR/NAME/seed-SEED, and its last checkpoint is tested, in WORK_DIR/NAME/seed-SEED/test. Run it
again after an interruption: what is done is skipped, what was under way goes on from its last
checkpoint. WORK_DIR gets comparison.md and .json, precision_recall.png and predictions.png.
"""

import argparse
import hashlib
import json
import pickle
import re
import sys
from collections.abc import Mapping, Sequence
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
from hsakd.utils.errors import CheckpointError, ConfigError, DataError, UserError  # noqa: E402

if TYPE_CHECKING:
    from mmengine.config import Config

    from hsakd.apis.training_runs import TrainingRun

#: Options that the tool gives itself.
_OWN_OPTIONS = ('work_dir', 'pretrained_backbone', 'pretrained_sha256', 'randomness.seed')


@dataclass
class Initialisation:
    """What backbones start from: a checkpoint file, or 'random' without a checksum."""

    name: str
    source: str
    sha256: str | None = None


@dataclass
class FineTuning:
    """One run of the comparison."""

    initialisation: Initialisation
    seed: int
    run: 'TrainingRun'

    @property
    def test_dir(self) -> Path:
        """Where its test writes."""
        return self.run.work_dir / 'test'

    @property
    def predictions(self) -> Path:
        """Those of its test."""
        return self.test_dir / 'predictions.pkl'

    def __str__(self) -> str:
        return f'{self.initialisation.name}, seed {self.seed}'


#: Metrics in percent by initialisation and seed.
Measured = dict[str, dict[int, dict[str, float]]]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path, help='of a detector, e.g. of configs/detection')
    parser.add_argument(
        '--init',
        nargs='+',
        required=True,
        metavar='NAME=FILE',
        help='checkpoints of backbones, and what to call them; random, alone, is training from '
        'scratch',
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0], help='default: 0')
    parser.add_argument('--work-dir', type=Path, help='default: work_dirs/CONFIG_NAME')
    parser.add_argument(
        '--reference', metavar='NAME', help='what the others are compared with (default: the first)'
    )
    parser.add_argument(
        '--images', type=positive_number, default=4, help='rows of predictions.png (default: 4)'
    )
    parser.add_argument(
        '--score-thr', type=float, default=0.5, help='of boxes in predictions.png (default: 0.5)'
    )
    parser.add_argument(
        '--dry-run', action='store_true', help='show the commands that are left, and run nothing'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='for every training and test, e.g. train_dataloader.batch_size=8',
    )
    add_trust_option(parser)
    args = parser.parse_args()
    args.work_dir = args.work_dir or Path('work_dirs') / args.config.stem
    args.seeds = list(dict.fromkeys(args.seeds))
    return args


def initialisations(texts: Sequence[str]) -> list[Initialisation]:
    """Parse and check ``--init``.

    Raises:
        ConfigError: A value is neither 'random' nor NAME=FILE, or a name is used twice.
        CheckpointError: A file is missing or broken.
    """
    from hsakd.utils.checkpoint import read_checkpoint

    found: dict[str, Initialisation] = {}
    for text in texts:
        name, separator, source = text.partition('=')
        is_random = text == 'random'
        if not is_random and (
            not re.fullmatch(r'\w[\w.+-]*', name)
            or name == 'random'
            or not separator
            or source in ('', 'random')
        ):
            raise ConfigError(
                f'--init {text}: accepted are random, and NAME=FILE with a NAME of letters, '
                'digits and . + - _, which is that of a folder'
            )
        if name in found:
            raise ConfigError(f'--init {text}: {name} is there twice; accepted is each name once')
        if is_random:
            found[name] = Initialisation(name, 'random')
            continue
        read_checkpoint(source, f'--init {name}')
        with open(Path(source).expanduser(), 'rb') as file:
            sha256 = hashlib.file_digest(file, 'sha256').hexdigest()
        found[name] = Initialisation(name, source, sha256)
    return list(found.values())


def plan(args: argparse.Namespace) -> list[FineTuning]:
    """All runs, seed by seed, so that what an interruption leaves is balanced.

    Raises:
        UserError: Something would stop a later run: every initialisation is tried in the detector,
            and what is there already has to be of these settings.
    """
    from hsakd.apis.running import is_detection
    from hsakd.apis.training_runs import TrainingRun, is_done, last_checkpoint, load_with_options
    from hsakd.utils.config_text import leaf_datasets

    for option in args.cfg_options:
        key = option.partition('=')[0]
        if key in _OWN_OPTIONS:
            raise ConfigError(
                f'--cfg-options {key}: each run has its own, of --work-dir, --init and --seeds; '
                'accepted are other options'
            )
    config = load_with_options(args.config, args.cfg_options)
    if not is_detection(config):
        raise ConfigError(
            f'config {str(args.config)!r}: default_scope={config.get("default_scope")!r}; accepted '
            'are detectors (mmdet), as those of configs/detection'
        )
    for key in ('load_from', 'resume'):
        if config.get(key):
            raise ConfigError(
                f'{key}={config[key]!r} would start every run from the same weights; accepted is '
                'none, and --init'
            )
    pipeline = next(leaf_datasets(config.test_dataloader.dataset)).get('pipeline', ())
    if not any(str(step.get('type')).endswith('LoadAnnotations') for step in pipeline):
        raise ConfigError(
            'test_dataloader.dataset.pipeline has no LoadAnnotations, and the pictures show the '
            'ground truth; accepted is a pipeline with that step'
        )
    inits = initialisations(args.init)
    names = [init.name for init in inits]
    args.reference = args.reference or names[0]
    if args.reference not in names:
        raise ConfigError(f'--reference {args.reference}: accepted are {", ".join(names)}')
    runs = []
    for seed in args.seeds:
        for init in inits:
            options = [*args.cfg_options, f'pretrained_backbone={init.source}']
            if init.sha256:  # so that runs from another file of the same name are told apart
                options.append(f'pretrained_sha256={init.sha256[:16]}')
            checkpoint = last_checkpoint(config, args.work_dir / init.name / f'seed-{seed}')
            options.append(f'randomness.seed={seed}')
            run = TrainingRun(args.config, checkpoint, options, args.trust_checkpoint)
            runs.append(FineTuning(init, seed, run))
    for fine_tuning in runs[: len(inits)]:
        run = fine_tuning.run
        _try_initialisation(fine_tuning.initialisation, load_with_options(run.config, run.options))
    for fine_tuning in runs:
        is_done(fine_tuning.run)
    check_out_folder(args.work_dir, '--work-dir')
    return runs


def _try_initialisation(init: Initialisation, config: 'Config') -> None:
    """See that the file fits the backbone of the detector."""
    from mmdet.registry import MODELS
    from mmengine.registry import DefaultScope

    from hsakd.engine.pretrained_backbone import (
        load_pretrained_backbone,
        prepare_pretrained_backbone,
    )

    if config.pretrained_backbone != init.source:
        raise CheckpointError(
            f'--init {init.name}={init.source}: --cfg-options of mmengine reads this as '
            f'{config.pretrained_backbone!r}; accepted is a path without spaces, commas, quotes '
            'and brackets'
        )
    prepare_pretrained_backbone(config)
    if init.sha256 is None:
        return
    try:
        with DefaultScope.overwrite_default_scope('mmdet'):
            model = MODELS.build(config.model)
    except Exception as error:  # of anybody's classes
        raise ConfigError(f'model cannot be built: {type(error).__name__}: {error}') from error
    load_pretrained_backbone(model, init.source, config.get('pretrained_network'))


def test(fine_tuning: FineTuning, label: str, args: argparse.Namespace) -> None:
    """Test the last checkpoint, unless that was done."""
    from hsakd.apis.training_runs import call

    if metrics(fine_tuning, args) is not None:
        print(f'{label}: tested', flush=True)
        return
    command = [str(args.config), str(fine_tuning.run.checkpoint)]
    command += ['--work-dir', str(fine_tuning.test_dir), '--out', str(fine_tuning.predictions)]
    command += ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    call('test.py', command, label, args.dry_run)
    if not args.dry_run and metrics(fine_tuning, args) is None:
        raise UserError(f'{label} left no metrics in {fine_tuning.test_dir}/TIME/TIME.json')


def metrics(fine_tuning: FineTuning, args: argparse.Namespace) -> dict[str, float] | None:
    """What the test measured, in percent; None unless that was this checkpoint, tested this way."""
    from hsakd.apis.training_runs import load_with_options
    from hsakd.utils.config_text import parse_config

    files = sorted(fine_tuning.test_dir.glob('*/*.json'))
    checkpoint = fine_tuning.run.checkpoint
    if not (files and checkpoint.is_file() and fine_tuning.predictions.is_file()):
        return None
    tested = parse_config((files[-1].parent / 'vis_data/config.py').read_text())
    wanted = load_with_options(args.config, args.cfg_options)
    older = files[-1].stat().st_mtime < checkpoint.stat().st_mtime
    if older or _test_settings(tested) != _test_settings(wanted):
        return None
    return {
        key: round(100 * value, 6)
        for key, value in json.loads(files[-1].read_text()).items()
        if '/' in key and isinstance(value, int | float) and value >= 0  # COCO's -1: no such boxes
    }


def _test_settings(config: 'Config') -> dict[str, object]:
    from hsakd.visualization.work_dirs import comparable_settings

    content = config.to_dict()
    parts = {key: content.get(f'test_{key}') for key in ('dataloader', 'evaluator', 'cfg')}
    return comparable_settings({**parts, 'model': content['model'].get('test_cfg')})


def tables(
    measured: Measured, seeds: Sequence[int], reference: str
) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, header and rows of the figures, and of the differences to the reference.

    Means come with the sample standard deviation over seeds. Differences are taken seed by seed.
    """
    from hsakd.visualization import mean_std

    keys = metric_keys(measured)

    def figures(values: Sequence[float], form: str) -> str:
        return mean_std(values, form) if values else '–'

    header = ['initialisation', 'seeds', *keys]
    rows, differences = [], []
    for name, by_seed in measured.items():
        count = f'{len(by_seed)} of {len(seeds)}' if len(by_seed) < len(seeds) else f'{len(seeds)}'
        values = ([m[key] for m in by_seed.values() if key in m] for key in keys)
        rows.append([name, count, *(figures(v, '.2f') for v in values)])
        if name != reference:
            paired = [paired_differences(by_seed, measured[reference], key) for key in keys]
            count = max(map(len, paired), default=0)
            differences.append([name, str(count), *(figures(v, '+.2f') for v in paired)])
    found = [('in percent, mean ± sample standard deviation over seeds', header, rows)]
    if differences:
        title = f'difference to {reference} with the same seed, percentage points'
        found.append((title, ['initialisation', 'pairs', *keys], differences))
    return found


def metric_keys(measured: Measured) -> list[str]:
    """Metrics in the order of the tests, without VOC's AP50 where that is mAP, rounded.

    It is where 0.5 is the only threshold.
    """
    results = [metrics for by_seed in measured.values() for metrics in by_seed.values()]
    keys = dict.fromkeys(key for metrics in results for key in metrics)

    def is_rounded(key: str) -> bool:
        mean = re.sub(r'/AP\d+$', '/mAP', key)
        return mean != key and all(
            key in m and mean in m and abs(m[key] - m[mean]) < 0.0501 for m in results
        )

    return [key for key in keys if not is_rounded(key)]


def paired_differences(
    by_seed: Mapping[int, Mapping[str, float]], reference: Mapping, key: str
) -> list[float]:
    """``key`` minus that of the reference, of the seeds that both have."""
    return [
        found[key] - reference[seed][key]
        for seed, found in by_seed.items()
        if key in found and key in reference.get(seed, {})
    ]


def lacking(measured: Measured, seeds: Sequence[int]) -> str:
    """Which seeds are still to do; empty if none are."""
    parts = [
        f'{name} lacks seed{"s" if len(left) > 1 else ""} {", ".join(left)}'
        for name, by_seed in measured.items()
        if (left := [str(seed) for seed in seeds if seed not in by_seed])
    ]
    return f'A partial comparison: {"; ".join(parts)}.' if parts else ''


def report(runs: Sequence[FineTuning], args: argparse.Namespace) -> None:
    """Show and write what was measured so far."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from hsakd.utils.files import write_files

    inits = {run.initialisation.name: run.initialisation for run in runs}
    measured: Measured = {name: {} for name in inits}
    for run in runs:
        found = metrics(run, args)
        if found is not None:
            measured[run.initialisation.name][run.seed] = found
    if not any(measured.values()):
        return
    note = lacking(measured, args.seeds)
    parts = tables(measured, args.seeds, args.reference)
    markdown = _markdown(parts, list(inits.values()), note, args)
    content = _content(measured, inits, note, args)
    write_files(
        {
            args.work_dir / 'comparison.md': markdown.encode(),
            args.work_dir / 'comparison.json': (json.dumps(content, indent=2) + '\n').encode(),
        },
        force=True,
    )
    console = Console()
    if not console.is_terminal:
        print(markdown)
        return
    for title, header, rows in parts:
        table = Table(title=title, title_justify='left', box=SIMPLE_HEAD, pad_edge=False)
        for column in header:
            table.add_column(column, justify='left' if column == header[0] else 'right')
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table)
    if note:
        console.print(note)
    console.print(f'{args.work_dir}/comparison.md, comparison.json', soft_wrap=True)


def _markdown(
    parts: Sequence, inits: Sequence[Initialisation], note: str, args: argparse.Namespace
) -> str:
    lines = [f'# {args.config.stem}', '', f'Config: `{args.config}`.']
    if args.cfg_options:
        lines.append(f'Changed: `{" ".join(args.cfg_options)}`.')
    lines += [
        'Last checkpoint of each run, on the test set of the config; seeds '
        f'{", ".join(map(str, args.seeds))}.',
        *([note] if note else []),
    ]
    origins = [[init.name, f'`{init.source}`', init.sha256 or '–'] for init in inits]
    for title, header, rows in [*parts, ('', ['initialisation', 'file', 'SHA-256'], origins)]:
        lines += ['', f'{title[0].upper()}{title[1:]}:', ''] if title else ['']
        lines += [f'| {" | ".join(row)} |' for row in [header, ['---'] * len(header), *rows]]
    return '\n'.join(lines) + '\n'


def _content(
    measured: Measured,
    inits: Mapping[str, Initialisation],
    note: str,
    args: argparse.Namespace,
) -> dict[str, object]:
    """What comparison.json holds; figures are percent."""
    import numpy as np

    def summary(values: Sequence[float]) -> dict[str, float | int | None]:
        std = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return dict(mean=float(np.mean(values)), std=std, seeds=len(values))

    keys = metric_keys(measured)
    found = {}
    for name, by_seed in measured.items():
        values = {key: [m[key] for m in by_seed.values() if key in m] for key in keys}
        paired = {
            key: paired_differences(by_seed, measured[args.reference], key)
            for key in keys
            if name != args.reference
        }
        found[name] = dict(
            file=inits[name].source,
            sha256=inits[name].sha256,
            by_seed=by_seed,
            over_seeds={key: summary(v) for key, v in values.items() if v},
            difference_to_reference={key: summary(v) for key, v in paired.items() if v},
        )
    return dict(
        config=str(args.config),
        options=args.cfg_options,
        seeds=args.seeds,
        reference=args.reference,
        partial=note or None,
        initialisations=found,
    )


def draw(runs: Sequence[FineTuning], args: argparse.Namespace) -> None:
    """Write the pictures, of the first seed."""
    from hsakd.apis.training_runs import load_with_options
    from hsakd.utils.checkpoint import read_checkpoint
    from hsakd.utils.files import write_files
    from hsakd.utils.unpickling import load_pickle
    from hsakd.visualization.detection import (
        draw_precision_recall,
        draw_predictions,
        precision_recall,
    )

    firsts = [run for run in runs if run.seed == args.seeds[0]]
    meta = read_checkpoint(firsts[0].run.checkpoint, 'checkpoint')['meta']
    classes = meta['dataset_meta']['classes']
    predictions = {}
    for run in firsts:
        try:
            with open(run.predictions, 'rb') as file:
                predictions[run.initialisation.name] = load_pickle(file)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise DataError(
                f'{run.predictions}: {error}; accepted is what tools/test.py wrote; delete it to '
                'test again'
            ) from error
    evaluator = load_with_options(args.config, args.cfg_options).test_evaluator
    evaluators = evaluator if isinstance(evaluator, list | tuple) else [evaluator]
    legacy = any(item['type'].endswith('VOCMetric') for item in evaluators)
    curves = {
        name: precision_recall(samples, len(classes), legacy)
        for name, samples in predictions.items()
    }
    title = f'seed {args.seeds[0]}'
    pictures = {
        'precision_recall.png': draw_precision_recall(
            curves, classes, f'Test images, IoU 0.5, AP by area, {title}'
        ),
        'predictions.png': draw_predictions(
            predictions, classes, args.images, args.score_thr, f'Test images, {title}'
        ),
    }
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
            label = f'[{position}/{len(runs)}] {run}'
            train(run.run, label, args.dry_run)
            test(run, f'{label}, test', args)
    finally:
        if not args.dry_run:
            report(runs, args)
    if not args.dry_run:
        draw(runs, args)


if __name__ == '__main__':
    run_tool(main)

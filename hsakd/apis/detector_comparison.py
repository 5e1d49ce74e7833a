"""One detector from several initializations: which one serves it best."""

import hashlib
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hsakd.engine.pretrained_backbone import RANDOM
from hsakd.results.paired import lacking, paired_tables
from hsakd.results.tables import markdown_table
from hsakd.utils.checkpoint import read_checkpoint
from hsakd.utils.cli import check_out_folder, print_markdown
from hsakd.utils.config_text import leaf_datasets
from hsakd.utils.errors import ConfigError, UserError
from hsakd.utils.files import write_files
from hsakd.utils.third_party import import_mmdet

from .comparison import raise_failures, run_each
from .plan import refuse_options
from .training_runs import (
    TrainingRun,
    call,
    last_checkpoint,
    load_with_options,
    tested_metrics,
    train,
    try_backbone,
)

_PREDICTIONS = 'predictions.pth'
#: Options that the comparison gives itself.
_OWN_OPTIONS = ('work_dir', 'pretrained_backbone', 'pretrained_sha256', 'randomness.seed')


@dataclass
class DetectorComparison:
    """Every initialization trained with every seed by the same schedule, and tested.

    Attributes:
        config: Of the detector.
        inits: ``NAME=FILE``, or 'random', for each initialization; ``{seed}`` in FILE is the seed.
        seeds: Of the trainings.
        work_dir: Its runs are in WORK_DIR/NAME/seed-SEED, their tests in ``test`` there.
        out: Folder of the tables and pictures.
        reference: Name of what others are compared with; by default the first.
        images: Rows of predictions.png.
        score_thr: Of boxes in predictions.png.
        options: ``--cfg-options`` as typed, for trainings and tests.
        trust_checkpoint: Trust what backbones start from.
        dry_run: Show the commands that are left, and run nothing.
    """

    config: Path
    inits: Sequence[str]
    seeds: Sequence[int]
    work_dir: Path
    out: Path
    reference: str | None = None
    images: int = 4
    score_thr: float = 0.5
    options: Sequence[str] = ()
    trust_checkpoint: bool = False
    dry_run: bool = False

    def run(self) -> None:
        """Train and test what is left, and write tables and pictures.

        Raises:
            UserError: Something would stop every run, such as an initialization that does not fit;
                or some failed, and what the others gave is written.
            ToolExit: It was asked to stop; as above.
        """
        import_mmdet()
        self.sources = initializations(self.inits, self.seeds)
        self.content = load_with_options(self.config, self.options)
        self._check()
        # Seed by seed, so that what an interruption leaves is balanced.
        self.runs = [self._run(name, seed) for seed in self.seeds for name in self.sources]
        tried = {self.sources[run.name][run.seed][0]: run for run in reversed(self.runs)}
        for file, run in tried.items():
            try_backbone(run, f'--init {run.name}', file)
        check_out_folder(self.work_dir, '--work-dirs')
        check_out_folder(self.out, '--out')
        self.failed: dict[Path, str] = {}
        try:
            run_each(self.runs, self.failed, self._train_and_test)
        finally:
            if not self.dry_run:
                self._report()
        if not self.dry_run:
            self._draw()
        raise_failures(self.runs, self.failed)

    def _check(self) -> None:
        instead = '--work-dirs, --init and --seeds'
        refuse_options(self.options, dict.fromkeys(_OWN_OPTIONS, instead))
        for key in ('load_from', 'resume'):
            given, none = self.content.get(key), 'none, since --init says what to start from'
            ConfigError.check(not given, key, none, given)
        pipeline = next(leaf_datasets(self.content.test_dataloader.dataset)).get('pipeline', ())
        steps = [str(step.get('type')).rsplit('.')[-1] for step in pipeline]
        where = 'test_dataloader.dataset.pipeline'
        ConfigError.check('LoadAnnotations' in steps, where, 'LoadAnnotations, for pictures', steps)
        self.reference = self.reference or next(iter(self.sources))
        known = ', '.join(self.sources)
        ConfigError.check(self.reference in self.sources, '--reference', known, self.reference)

    def _run(self, name: str, seed: int) -> TrainingRun:
        source, sha256 = self.sources[name][seed]
        options = [*self.options, f'pretrained_backbone={source}']
        if sha256:  # so that runs from another file of the same name are told apart
            options.append(f'pretrained_sha256={sha256[:16]}')
        options.append(f'randomness.seed={seed}')
        checkpoint = last_checkpoint(self.content, self.work_dir / name / f'seed-{seed}')
        trust = self.trust_checkpoint
        return TrainingRun(self.config, checkpoint, options, trust, seed, name=name)

    def _train_and_test(self, run: TrainingRun, label: str) -> None:
        train(run, label, self.dry_run)
        label, test_dir = f'{label}, test', run.work_dir / 'test'
        if self._metrics(run) is not None:
            print(f'{label}: tested', flush=True)
            return
        command = [str(self.config), str(run.checkpoint), '--work-dir', str(test_dir)]
        command += ['--out', str(test_dir / _PREDICTIONS)]
        command += ['--cfg-options', *self.options] if self.options else []
        call('test', command, label, self.dry_run)
        ok = self.dry_run or self._metrics(run) is not None
        UserError.check(ok, label, f'metrics in {test_dir}/TIME/TIME.json', 'none')

    def _metrics(self, run: TrainingRun) -> dict[str, float] | None:
        """What its test measured, in percent; None if there is none of its checkpoint."""
        test_dir = run.work_dir / 'test'
        found = tested_metrics(test_dir, run.checkpoint, self.content)
        if found is None or run.work_dir in self.failed or not (test_dir / _PREDICTIONS).is_file():
            return None
        # COCO's -1: no such boxes
        return {key: round(100 * v, 6) for key, v in found.items() if '/' in key and v >= 0}

    def _report(self) -> None:
        """Show and write what was measured so far."""
        measured = {name: {} for name in self.sources}
        by_class = {name: {} for name in self.sources}
        for run in self.runs:
            if (found := self._metrics(run)) is not None:
                measured[run.name][run.seed] = found
                by_class[run.name][run.seed] = {
                    name: 100 * float(curve['ap'])
                    for name, curve in self._curves(run).items()
                    if curve['num_gts']
                }
        if not any(measured.values()):
            return
        note = lacking(measured, self.seeds)
        rows, differences = paired_tables(measured, self.seeds, self.reference)
        of_classes = [
            [(name, *values) for name, _, *values in table]
            for table in paired_tables(by_class, self.seeds, self.reference)
        ]
        files = {name: dict(of_seeds.values()) for name, of_seeds in self.sources.items()}
        origins = [
            [n, f'`{file}`', shas[file] or '–'] for n, shas in files.items() for file in shas
        ]
        failed = {run.label: self.failed.get(run.work_dir) for run in self.runs}
        parts = [
            f'# {self.config.stem}',
            f'Config: `{self.config}`.',
            f'Changed: `{shlex.join(self.options)}`.' if self.options else '',
            'Last checkpoint of each run, on the test set of the config; seeds '
            f'{", ".join(map(str, self.seeds))}.',
            note,
            '\n'.join(f'- {label}: {reason}' for label, reason in failed.items() if reason),
            'In percent, mean ± sample standard deviation over seeds:',
            markdown_table(rows[0], rows[1:], rows[0][:1]),
        ]
        if len(differences) > 1:
            title = f'Difference to {self.reference} with the same seed, percentage points:'
            parts += [title, markdown_table(differences[0], differences[1:], rows[0][:1])]
        of_class = 'By class, average precision at an IoU of 0.5:'
        titles = (of_class, f'Differences to {self.reference} of these:')
        for title, table in zip(titles, of_classes, strict=True):
            (_, *names), *classes = zip(*table, strict=True)
            if names:
                parts += [title, markdown_table(['class', *names], classes, ['class'])]
        columns = ['initialization', 'file', 'SHA-256']
        text = '\n\n'.join(filter(None, [*parts, markdown_table(columns, origins, columns)])) + '\n'
        content = dict(
            config=str(self.config),
            options=list(self.options),
            seeds=list(self.seeds),
            reference=self.reference,
            partial=note or None,
            tables=dict(figures=rows, differences=differences),
            initializations={
                name: dict(files=shas, by_seed=measured[name], ap50_by_class=by_class[name])
                for name, shas in files.items()
            },
        )
        texts = {'comparison.md': text, 'comparison.json': json.dumps(content, indent=2) + '\n'}
        write_files({self.out / name: t.encode() for name, t in texts.items()}, force=True)
        print_markdown(text)

    def _curves(self, run: TrainingRun) -> dict[str, dict]:
        """Precision over recall of its test, by class."""
        from hsakd.visualization.detection import precision_recall

        meta = read_checkpoint(run.checkpoint, 'checkpoint')['meta']['dataset_meta']
        found = read_checkpoint(run.work_dir / 'test' / _PREDICTIONS, 'predictions')
        legacy = 'VOCMetric' in str(self.content.test_evaluator)
        curves = precision_recall(found, len(meta['classes']), legacy)
        return dict(zip(meta['classes'], curves, strict=True))

    def _draw(self) -> None:
        """Write the pictures, of the first seed."""
        from hsakd.visualization.detection import draw_precision_recall, draw_predictions

        firsts = [run for run in self.runs if run.seed == self.seeds[0] and self._metrics(run)]
        if not firsts:
            return
        curves = {run.name: self._curves(run) for run in firsts}
        classes = list(curves[firsts[0].name])
        predictions = {
            run.name: read_checkpoint(run.work_dir / 'test' / _PREDICTIONS, 'predictions')
            for run in firsts
        }
        title = f'Test images, seed {self.seeds[0]}'
        lines = draw_precision_recall(
            {name: list(by_class.values()) for name, by_class in curves.items()},
            classes,
            f'{title}, IoU 0.5, AP by area',
        )
        boxes = draw_predictions(predictions, classes, self.images, self.score_thr, title)
        pictures = {'precision_recall.png': lines, 'predictions.png': boxes}
        write_files({self.out / name: png for name, png in pictures.items()}, force=True)
        print(f'{self.out}/{", ".join(pictures)}')


def initializations(
    texts: Sequence[str], seeds: Sequence[int]
) -> dict[str, dict[int, tuple[str, str | None]]]:
    """Parse and check ``--init``: file, or 'random', and checksum by name and seed.

    Raises:
        ConfigError: A value is neither 'random' nor NAME=FILE, or a name is used twice.
        CheckpointError: A file is missing or broken.
    """
    found = {}
    for text in texts:
        name, _, source = text.partition('=')
        named = (
            re.fullmatch(r'\w[\w.+-]*', name) and name != 'random' and source not in ('', 'random')
        )
        accepted = 'random, or NAME=FILE with a NAME of letters, digits and . + - _'
        ConfigError.check(named or text == 'random', '--init', accepted, text)
        ConfigError.check(name not in found, '--init', 'each name once', f'{name} twice')
        of_seeds = {seed: (source or text).replace('{seed}', str(seed)) for seed in seeds}
        sha256 = {RANDOM: None}
        for file in {*of_seeds.values()} - {RANDOM}:
            read_checkpoint(file, f'--init {name}')
            sha256[file] = hashlib.sha256(Path(file).expanduser().read_bytes()).hexdigest()
        found[name] = {seed: (file, sha256[file]) for seed, file in of_seeds.items()}
    return found

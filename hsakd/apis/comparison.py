"""Configs, or the starts of one detector, side by side: everything trained, and one table."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hsakd.results.runs import RECORD, LeftOut, Run
from hsakd.results.tables import Results, collect, to_csv, to_markdown
from hsakd.utils.cli import check_out_folder, print_markdown
from hsakd.utils.errors import ConfigError, UserError
from hsakd.utils.files import write_files
from hsakd.visualization import draw_costs

from .plan import Plan, refuse_options
from .training_runs import ToolExit, TrainingRun, train

_METRIC = 'accuracy/top1'


def compare_classifiers(plan: Plan, out: Path, dry_run: bool = False) -> None:
    """Train what is left of a plan, and write OUT/comparison.md, .csv and accuracy_over_cost.png.

    Args:
        plan: Of the configs, with seeds.
        out: Folder of the tables and the picture.
        dry_run: Show the commands that are left, and run nothing.

    Raises:
        UserError: Some runs failed; what the others gave is written.
        ToolExit: It was asked to stop; as above.
    """
    check_out_folder(out, '--out')
    names = [run.config.stem for run in plan.runs if run.seed == plan.runs[-1].seed]
    twice = {name for name in names if names.count(name) > 1}
    ConfigError.check(not twice, 'CONFIG', 'each name once', f'{", ".join(twice)} twice')
    refuse_options(plan.options, {'randomness.seed': '--seeds'})
    failed: dict[Path, str] = {}
    try:
        run_each(plan.runs, failed, lambda run, label: train(run, label, dry_run))
    finally:
        if not dry_run:
            _report(plan, failed, out)
    raise_failures(plan.runs, failed)


def run_each(
    runs: Sequence[TrainingRun], failed: dict[Path, str], do: Callable[[TrainingRun, str], None]
) -> None:
    """Do what is to be done for each run; one that fails stops none but those that need it.

    Args:
        runs: In order.
        failed: Takes the reasons, by work dir.
        do: Takes a run and what the terminal calls it.

    Raises:
        ToolExit: A tool was asked to stop.
    """
    for position, run in enumerate(runs, 1):
        label = f'[{position}/{len(runs)}] {run.label}'
        lacking = [needed.label for needed in run.needs if needed.work_dir in failed]
        if lacking:
            failed[run.work_dir] = f'needs {", ".join(lacking)}, which failed'
            print(f'{label}: {failed[run.work_dir]}', file=sys.stderr)
            continue
        try:
            do(run, label)
        except ToolExit as exit_:
            if exit_.asked:
                raise
            failed[run.work_dir] = exit_.reason
        except UserError as error:
            failed[run.work_dir] = str(error)
            print(f'{label}: {error}', file=sys.stderr)


def raise_failures(runs: Sequence[TrainingRun], failed: dict[Path, str]) -> None:
    """List the runs that failed, if there are any.

    Raises:
        UserError: There are some.
    """
    lines = [f'- {run.label}: {failed[run.work_dir]}' for run in runs if run.work_dir in failed]
    if lines:
        raise UserError('\n'.join([f'{len(lines)} of {len(runs)} runs failed', *lines]))


def _report(plan: Plan, failed: dict[Path, str], out: Path) -> None:
    """Show and write what the runs of a plan gave so far."""
    compared = [*plan.students, *plan.baselines]
    results = _results(plan.runs, compared, failed)
    text = f'# Comparison\n\n{to_markdown(results)}'
    files = {'comparison.md': text.encode(), 'comparison.csv': to_csv(results).encode()}
    names = {run.config.stem for run in compared}
    rows = [row for row in results.rows if row.group.name in names]
    if rows:
        files['accuracy_over_cost.png'] = draw_costs(rows)
    write_files({out / name: content for name, content in files.items()}, force=True)
    print_markdown(text)
    print(f'{out}/{", ".join(files)}')


def _results(
    runs: Sequence[TrainingRun], compared: Sequence[TrainingRun], failed: dict[Path, str]
) -> Results:
    """What is done, and why the rest is not; phases without a classifier's accuracy are no rows."""
    done, left_out = [], []
    for run in runs:
        reason = failed.get(run.work_dir)
        there = None if reason else Run.of(run.work_dir)
        if there and there.finished:
            if there.final(_METRIC) is not None:
                done.append(there)
                continue
            if run not in compared:
                continue
            reason = f'{_METRIC} was not measured at the end'
        found = there.progress if there else f'no {RECORD}'
        left_out.append(LeftOut(run.work_dir, reason or found, run.config.stem, run.seed))
    return collect(done, left_out, _METRIC, alike=False)

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
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hsakd.utils.cli import add_trust_option, check_out_folder, run_tool  # noqa: E402
from hsakd.utils.errors import ConfigError  # noqa: E402


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
        default=Path('work_dirs'),
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


def main() -> None:
    """Plan, train what is left, publish, and compare."""
    args = parse_args()
    from hsakd.apis.plan import Plan
    from hsakd.apis.running import is_detection
    from hsakd.apis.training_runs import call, load_with_options, train
    from hsakd.results.runs import Run

    check_out_folder(Path(args.out).parent, f'--out={args.out!r}')
    plan = Plan(
        [args.config],
        args.seeds,
        args.work_dirs,
        args.cfg_options,
        not args.no_baseline,
        args.trust_checkpoint,
    )
    is_detector = is_detection(load_with_options(args.config, args.cfg_options))
    where = f'config {str(args.config)!r}'
    ConfigError.check(
        not (is_detector and args.onnx), where, 'a classifier with --onnx', 'a detector'
    )
    for position, run in enumerate(plan.runs, 1):
        train(run, f'[{position}/{len(plan.runs)}] {run.label}', args.dry_run)
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
    call('analysis_tools/collect_results.py', [str(run.work_dir) for run in plan.runs], 'results')


if __name__ == '__main__':
    run_tool(main)

"""From a config to a published student, or to a detector: whatever it needs is trained first.

The checkpoints that the config names (model.teacher_ckpt, any other key ending in _ckpt, load_from,
pretrained_backbone) and that are not there are trained from the configs of their folders' names;
then come the config itself and, for comparison, the plain baseline of the same network. At the end
the student is published and a table shows what distillation gained. A detector is left to
`publish`. Run it again after an interruption: what is done
is skipped, what was under way goes on from its last checkpoint.

With --data DIR it starts from a folder of your own images: `distill --data DIR --help`.
"""

import argparse
import shlex
import sys
from pathlib import Path

from hsakd.commands import distill_images, typed
from hsakd.results.names import config_file
from hsakd.utils.cli import add_trust_option, check_out_folder, tool_parser
from hsakd.utils.errors import ConfigError


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """A config, and how to train it."""
    parser = tool_parser(__doc__)
    parser.add_argument(
        'config', type=Path, help='of a student (offline, online), or of whatever comes after one'
    )
    parser.add_argument(
        '--seeds',
        nargs='+',
        type=int,
        help='train student and baseline once a seed; the first student is published (default: '
        'that of the configs)',
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
        help='for every training; checkpoints and model.* for the given config alone, e.g. '
        'model.teacher_ckpt=FILE',
    )
    add_trust_option(parser)
    args = parser.parse_args(argv)
    args.config = Path(config_file(str(args.config)))
    args.seeds = args.seeds and list(dict.fromkeys(args.seeds))
    return args


def main(argv: list[str] | None = None) -> None:
    """Plan, train what is left, publish, and compare."""
    if '--data' in (argv if argv is not None else sys.argv):
        distill_images.main(argv)
        return
    args = parse_args(argv)
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
        call('results', results, 'results')
        shown = shlex.quote(str(plan.students[0].checkpoint))
        print(f'try it with  {typed("predict")} IMAGES --model {shown}')
        return
    publish = [str(plan.students[0].checkpoint), args.out, *(['--onnx'] if args.onnx else [])]
    call('publish', publish, 'publish')
    call('results', [str(run.work_dir) for run in plan.runs], 'results')

"""Compare configs, or initializations of a detector: train what is missing, and make one table.

Of classifiers, every config is trained once a seed, and so is the plain network of each student;
checkpoints that they need are trained once before. A detector is trained from every --init.
What is done is skipped, what was cut off goes on, what has other settings is refused. Runs that
fail are listed at the end (status 1). Ctrl-C and SIGTERM stop all; run it again to go on.
"""

import argparse
from pathlib import Path

from hsakd.results.names import config_file
from hsakd.utils.cli import add_trust_option, positive_number, tool_parser
from hsakd.utils.errors import ConfigError


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """What to compare, and how."""
    parser = tool_parser(__doc__)
    add = parser.add_argument
    add('configs', nargs='+', type=Path, metavar='CONFIG', help='of classifiers, or one detector')
    add('--seeds', nargs='+', type=int, default=[0], help='default: 0')
    work_dirs = 'folder of all trainings (default: %(default)s)'
    add('--work-dirs', type=Path, default=Path('work_dirs'), metavar='DIR', help=work_dirs)
    out = 'of tables and pictures (default: WORK_DIRS/comparison or /CONFIG_NAME)'
    add('--out', type=Path, metavar='DIR', help=out)
    add('--dry-run', action='store_true', help='show the commands that are left, and run nothing')
    options = 'for every training and test; checkpoints and model.* for the given configs alone'
    add('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help=options)
    add_trust_option(parser)
    add = parser.add_argument_group('classifiers').add_argument
    add('--no-baseline', action='store_true', help='leave out the plain networks')
    add = parser.add_argument_group('a detector').add_argument
    named = 'checkpoints of backbones, {seed} in them is the seed; or random'
    add('--init', nargs='+', default=[], metavar='NAME=FILE', help=named)
    add('--reference', metavar='NAME', help='what others are compared with (default: the first)')
    add('--images', type=positive_number, default=4, help='rows of predictions.png (default: 4)')
    add('--score-thr', type=float, default=0.5, help='of boxes in predictions.png (default: 0.5)')
    args = parser.parse_args(argv)
    args.configs = [*dict.fromkeys(Path(config_file(str(config))) for config in args.configs)]
    args.seeds = [*dict.fromkeys(args.seeds)]
    return args


def main(argv: list[str] | None = None) -> None:
    """Compare what the configs are of."""
    args = parse_args(argv)
    from hsakd.apis.comparison import compare_classifiers
    from hsakd.apis.detector_comparison import DetectorComparison
    from hsakd.apis.plan import Plan
    from hsakd.apis.running import is_detection, load_config

    detectors = [c for c in args.configs if is_detection(load_config(str(c)))]
    if not (detectors or args.init or args.reference):
        plan = Plan(
            args.configs,
            args.seeds,
            args.work_dirs,
            args.cfg_options,
            not args.no_baseline,
            args.trust_checkpoint,
        )
        compare_classifiers(plan, args.out or args.work_dirs / 'comparison', args.dry_run)
        return
    one = len(args.configs) == len(detectors) == 1
    found = f'{len(detectors)} among {len(args.configs)} configs'
    ConfigError.check(one, '--init', 'one config, that of a detector', found)
    ConfigError.check(args.init, '--init', 'what a detector starts from, NAME=FILE ...', 'none')
    work_dir = args.work_dirs / args.configs[0].stem
    DetectorComparison(
        args.configs[0],
        args.init,
        args.seeds,
        work_dir,
        args.out or work_dir,
        args.reference,
        args.images,
        args.score_thr,
        args.cfg_options,
        args.trust_checkpoint,
        args.dry_run,
    ).run()

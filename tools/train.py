#!/usr/bin/env python
"""Train what a config describes: baseline, teacher, student or detector."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hsakd.utils.cli import parse_runner_args, run_tool, runner_parser  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = runner_parser(__doc__)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint; without a path, from the last one in the work dir',
    )
    parser.add_argument(
        '--fast',
        action='store_true',
        help='compiled, and in bfloat16 where the hardware has it: see docs/benchmarks.md',
    )
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate while training')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate with the actual batch size over the config's",
    )
    parser.add_argument(
        '--no-persistent-workers', action='store_true', help='new loader workers every epoch'
    )
    return parse_runner_args(parser)


def main() -> None:
    """Config and options to a runner, and train."""
    args = parse_args()
    from mmengine.device import is_cuda_available, is_musa_available, is_npu_available

    from hsakd.apis.running import build_runner, prepare_config, prepare_resume
    from hsakd.engine.distributed import leave_processes
    from hsakd.utils.checkpoint import read_checkpoint
    from hsakd.utils.errors import ConfigError

    config = prepare_config(args)
    if args.no_validate:
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
    for key in ('train_dataloader', 'val_dataloader'):
        if config.get(key):
            workers = config[key].get('num_workers', 0) != 0
            config[key].setdefault('persistent_workers', workers)
            option = f'{key}.persistent_workers'
            if option not in (args.cfg_options or {}):
                unwanted = args.no_persistent_workers or not workers
                config[key].persistent_workers &= not unwanted
    if args.amp:
        if not (is_cuda_available() or is_npu_available() or is_musa_available()):
            raise ConfigError('--amp needs a GPU, and none was found; train without it')
        config.optim_wrapper.type = 'AmpOptimWrapper'
        config.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.fast:
        config.fast = True
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in config:
            raise ConfigError('--auto-scale-lr: the config has no auto_scale_lr.base_batch_size')
        config.auto_scale_lr.enable = True
    notice = prepare_resume(config, args.resume)
    if config.get('load_from'):  # before the data set is built
        option = '--resume' if config.resume else 'load_from'
        if '://' in str(config.load_from):
            raise ConfigError(
                f'{option}={config.load_from!r}: accepted is a file; download it first'
            )
        read_checkpoint(config.load_from, option)
    runner = build_runner(config, train=True)
    if notice:
        runner.logger.warning(notice)
    runner.train()
    leave_processes()


if __name__ == '__main__':
    run_tool(main)

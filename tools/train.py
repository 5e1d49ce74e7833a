#!/usr/bin/env python
"""Train what a config describes: baseline, teacher or student."""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hsakd.utils.cli import parse, run_tool  # noqa: E402


def parse_args() -> argparse.Namespace:
    """Options as those of mmpretrain's tools/train.py."""
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint; without a path, from the last one in the work dir',
    )
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision (GPU)')
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate while training')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate with the actual batch size over the config's",
    )
    parser.add_argument('--no-pin-memory', action='store_true', help='loaders do not pin memory')
    parser.add_argument(
        '--no-persistent-workers', action='store_true', help='new loader workers every epoch'
    )
    parser.add_argument(
        '--skip-bad-images',
        action='store_true',
        help='leave out and count images that cannot be decoded (decodes every image once first)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override keys of the config, e.g. optim_wrapper.optimizer.lr=0.01 '
        'model.teacher_ckpt=FILE; lists as key="[a,b]"',
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none'
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parse(parser)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main() -> None:
    """Config and options to a runner, and train."""
    args = parse_args()
    from mmengine.device import is_cuda_available, is_musa_available, is_npu_available

    from hsakd.apis.running import (
        build_runner,
        load_config,
        set_dataloader_defaults,
        skip_bad_images,
    )
    from hsakd.utils.checkpoint import read_checkpoint
    from hsakd.utils.errors import ConfigError

    config = load_config(args.config, args.cfg_options)
    config.launcher = args.launcher
    if args.work_dir:
        config.work_dir = args.work_dir
    elif not config.get('work_dir'):
        config.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    if args.no_validate:
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
    if args.amp:
        if not (is_cuda_available() or is_npu_available() or is_musa_available()):
            raise ConfigError('--amp needs a GPU, and none was found; train without it')
        config.optim_wrapper.type = 'AmpOptimWrapper'
        config.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in config:
            raise ConfigError('--auto-scale-lr: the config has no auto_scale_lr.base_batch_size')
        config.auto_scale_lr.enable = True
    if args.resume:
        config.resume = True
        config.load_from = None if args.resume == 'auto' else args.resume
    if config.get('load_from'):  # before the data set is built
        read_checkpoint(config.load_from, '--resume' if args.resume else 'load_from')
    if args.skip_bad_images:
        skip_bad_images(config)
    set_dataloader_defaults(
        config,
        pin_memory=not args.no_pin_memory and is_cuda_available(),
        persistent_workers=not args.no_persistent_workers,
    )
    build_runner(config).train()


if __name__ == '__main__':
    run_tool(main)

#!/usr/bin/env python
"""Evaluate a checkpoint on the test set of a config."""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hsakd.utils.cli import parse, run_tool  # noqa: E402


def parse_args() -> argparse.Namespace:
    """Options as those of mmpretrain's tools/test.py."""
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint of tools/train.py, or a converted one')
    parser.add_argument('--work-dir', help='folder for logs and metrics')
    parser.add_argument('--out', help='file for predictions (.pkl) or metrics (.json)')
    parser.add_argument(
        '--out-item',
        choices=['metrics', 'pred'],
        help='what --out gets; predictions by default',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument('--show-dir', help='folder for pictures of the predictions')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--interval', type=int, default=1, help='show every n-th image')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds a window stays')
    parser.add_argument('--no-pin-memory', action='store_true', help='loaders do not pin memory')
    parser.add_argument(
        '--skip-bad-images',
        action='store_true',
        help='leave out and count images that cannot be decoded (decodes every image once first)',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='override keys of the config'
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none'
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parse(parser)
    if args.out_item and not args.out:
        parser.error('--out-item needs --out')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main() -> None:
    """Config, checkpoint and options to a runner, and test."""
    args = parse_args()
    import mmengine
    from mmengine.device import is_cuda_available
    from mmengine.evaluator import DumpResults

    from hsakd.apis.running import (
        build_runner,
        load_config,
        load_for_test,
        set_dataloader_defaults,
        skip_bad_images,
    )
    from hsakd.utils.checkpoint import read_checkpoint

    config = load_config(args.config, args.cfg_options)
    read_checkpoint(args.checkpoint, 'checkpoint')  # before the data set is built
    config.launcher = args.launcher
    config.load_from, config.resume = None, False
    if args.work_dir:
        config.work_dir = args.work_dir
    elif not config.get('work_dir'):
        config.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    if args.amp:
        config.test_cfg.fp16 = True
    if args.show or args.show_dir:
        config.default_hooks.visualization.update(
            enable=True,
            show=args.show,
            wait_time=args.wait_time,
            out_dir=args.show_dir,
            interval=args.interval,
        )
    if args.skip_bad_images:
        skip_bad_images(config)
    set_dataloader_defaults(
        config, pin_memory=not args.no_pin_memory and is_cuda_available(), persistent_workers=False
    )

    runner = build_runner(config)
    load_for_test(runner, args.checkpoint)
    if args.out and args.out_item != 'metrics':
        runner.test_evaluator.metrics.append(DumpResults(out_file_path=args.out))
    metrics = runner.test()
    if args.out and args.out_item == 'metrics':
        mmengine.dump(metrics, args.out)


if __name__ == '__main__':
    run_tool(main)

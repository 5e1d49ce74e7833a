"""Evaluate a checkpoint on the test set of a config."""

import argparse
import os
from pathlib import Path

from hsakd.utils.cli import (
    check_out_file,
    check_out_folder,
    parse_runner_args,
    positive_number,
    runner_parser,
)
from hsakd.utils.errors import UserError

#: Suffixes of --out, by --out-item; a .pth of predictions can be read without executing anything.
_SUFFIXES = {
    'pred': ('.pkl', '.pickle', '.pth'),
    'metrics': ('.json', '.yaml', '.yml', '.pkl', '.pickle'),
}


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """A config, a checkpoint, and what to keep."""
    parser = runner_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint of a training, or a converted one')
    parser.add_argument(
        '--out', help='file for predictions (.pkl, .pth) or metrics (.json); one there is replaced'
    )
    parser.add_argument(
        '--out-item', choices=['metrics', 'pred'], help='what --out gets (default: pred)'
    )
    parser.add_argument(
        '--show-dir',
        type=Path,
        help='folder for pictures of the predictions',
    )
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--interval', type=positive_number, default=1, help='show every n-th image')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds a window stays')
    args = parse_runner_args(parser, argv)
    if args.out_item and not args.out:
        parser.error('--out-item needs --out')
    suffixes = _SUFFIXES[args.out_item or 'pred']
    if args.out and not args.out.endswith(suffixes):
        item = args.out_item or 'pred, the default'
        parser.error(f'--out: expected one of {suffixes} for --out-item {item}, got {args.out!r}')
    if args.out and Path(args.out).is_dir():
        parser.error(f'--out: expected a file, got {args.out!r}, a folder')
    return args


def main(argv: list[str] | None = None) -> None:
    """Config, checkpoint and options to a runner, and test."""
    args = parse_args(argv)
    import mmengine
    from mmengine.dist import get_world_size, is_main_process

    from hsakd.apis.running import build_runner, is_detection, load_for_test, prepare_config
    from hsakd.engine.distributed import shutdown_processes
    from hsakd.engine.pretrained_backbone import prepare_trained_detector
    from hsakd.evaluation.dump_predictions import DumpPredictions, plain_values
    from hsakd.utils.checkpoint import read_checkpoint
    from hsakd.utils.files import write_files

    display = os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')
    UserError.check(not args.show or display, '--show', 'a screen; --show-dir needs none', 'none')
    if args.out:
        check_out_file(args.out, force=True, option=f'--out={args.out!r}')
    if args.show_dir:
        check_out_folder(args.show_dir, f'--show-dir={str(args.show_dir)!r}')
    config = prepare_config(args)
    checkpoint = read_checkpoint(args.checkpoint, 'checkpoint')  # before the data set is built
    config.load_from, config.resume = None, False
    if args.amp:
        config.test_cfg.fp16 = True
    notice = None
    if is_detection(config):
        notice = prepare_trained_detector(config, args.checkpoint, 'checkpoint', checkpoint)
    if args.show or args.show_dir:
        kinds = 'mmpretrain.UniversalVisualizer', 'mmdet.DetLocalVisualizer'
        config.setdefault('visualizer', dict(type=kinds[is_detection(config)]))
    runner = build_runner(config)
    one = 'a test by one process, which draws all pictures'
    UserError.check(not args.show_dir or get_world_size() == 1, '--show-dir', one, get_world_size())
    if notice:
        runner.logger.log(*notice)
    if args.show or args.show_dir:
        from hsakd.visualization.prediction_hook import PredictionHook

        window = dict(show=args.show, wait_time=args.wait_time)
        runner.register_hook(PredictionHook(args.show_dir, args.interval, **window))
    load_for_test(runner, args.checkpoint, checkpoint)
    if args.out and args.out_item != 'metrics':
        runner.test_evaluator.metrics.append(DumpPredictions(args.out))
    metrics = runner.test()
    if args.out and args.out_item == 'metrics' and is_main_process():
        suffix = args.out.rpartition('.')[2]
        content = mmengine.dump(plain_values(metrics), file_format=suffix)
        write_files({args.out: content if isinstance(content, bytes) else content.encode()}, True)
    shutdown_processes()

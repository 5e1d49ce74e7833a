"""Publish the network that a checkpoint of training deploys, as a plain mmpretrain classifier.

Written are PREFIX-HASH8.pth (weights, config and class names; no teacher, branches, joint heads or
optimizer state) and PREFIX-HASH8.py (its config), which mmpretrain loads:
get_model('PREFIX-HASH8.py', pretrained=True). Before anything is written the logits are compared
with those of the trained network.
"""

import argparse
import shlex
from pathlib import Path

from hsakd.commands import typed
from hsakd.results.names import config_file
from hsakd.utils.cli import add_trust_option, check_out_folder, tool_parser


def _network(text: str) -> int | str:
    if text != 'best' and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected 'best' or a number from 0, got {text!r}")
    return text if text == 'best' else int(text)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """A checkpoint, and where to write."""
    parser = tool_parser(__doc__)
    parser.add_argument(
        'checkpoint', help='of a training: baseline, teacher, offline or online distiller'
    )
    parser.add_argument(
        'out',
        help='PREFIX of the files, as in models/resnet20; or a folder (one that exists, or ending '
        'in /), then the experiment names the files',
    )
    parser.add_argument(
        '--onnx',
        action='store_true',
        help='also write PREFIX-HASH8.onnx: float32 RGB images [N, 3, H, W], 0..255, to logits; '
        'normalization is inside the model; compared with PyTorch in ONNX Runtime',
    )
    parser.add_argument(
        '--network',
        type=_network,
        metavar='N',
        help="which network of an online distiller, from 0 (the default); or 'best', that of the "
        'highest top-1 at the validation of the checkpoint, by the logs beside it',
    )
    parser.add_argument(
        '--config',
        help='config of a checkpoint that holds none, such as a converted one',
    )
    parser.add_argument(
        '--force', action='store_true', help='replace files of the same names and other content'
    )
    add_trust_option(parser)
    args = parser.parse_args(argv)
    args.config = args.config and config_file(args.config)
    return args


def main(argv: list[str] | None = None) -> None:
    """Load, compare, write, and say what is where."""
    args = parse_args(argv)
    from hsakd.apis import best_network, export_onnx, load_classifier, publish
    from hsakd.apis.publishing import experiment_name

    prefix = Path(args.out)
    if args.out.endswith('/') or prefix.is_dir():
        prefix /= experiment_name(args.checkpoint)
    elif prefix.suffix in ('.pth', '.py', '.onnx'):  # which the files get themselves
        prefix = prefix.with_suffix('')
    check_out_folder(prefix.parent, f'out={args.out!r}')
    if args.network == 'best':
        args.network = best_network(args.checkpoint)
        print(f'network {args.network} is the best on validation')
    classifier = load_classifier(args.checkpoint, args.config, args.network)
    model, difference = export_onnx(classifier) if args.onnx else (None, None)
    files = publish(classifier, prefix, onnx=model, force=args.force)

    parameters = sum(p.numel() for p in classifier.parameters())
    print(
        f'{args.checkpoint}: {type(classifier.backbone).__name__}, '
        f'{classifier.head.num_classes} classes, {parameters:,} parameters; logits as trained'
    )
    for file in files:
        print(f'  {file} ({file.stat().st_size:,} bytes)')
    if args.onnx:
        print(f'  logits of ONNX Runtime and PyTorch differ by {difference:.1e} at most')
    print(f'load it with mmpretrain.get_model({str(files[1])!r}, pretrained=True)')
    print(f'try it with  {typed("predict")} IMAGES --model {shlex.quote(str(files[0]))}')

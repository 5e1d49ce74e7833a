"""Publish what a checkpoint of training deploys: a plain mmpretrain classifier, or a detector.

Written are PREFIX-HASH8.pth (weights, config and class names; no teacher, branches, joint heads or
optimizer state) and PREFIX-HASH8.py (its config), which mmpretrain loads:
get_model('PREFIX-HASH8.py', pretrained=True). Before anything is written the logits are compared
with those of the trained network. A detector is published for mmdet in the same way:
init_detector('PREFIX-HASH8.py', 'PREFIX-HASH8.pth').
"""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from hsakd.commands import typed
from hsakd.results.names import config_file
from hsakd.utils.cli import add_trust_option, check_out_folder, tool_parser
from hsakd.utils.errors import UserError

if TYPE_CHECKING:
    from torch import nn


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
        'normalization is inside the model; compared with PyTorch in ONNX Runtime. Of a detector '
        'to boxes, scores and labels',
    )
    parser.add_argument(
        '--image',
        metavar='FILE',
        help='of a detector with --onnx: an image in which it finds something, to compare by; its '
        'size, as tests resize it, is that of the ONNX model',
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
    from hsakd import apis
    from hsakd.apis.publishing import experiment_name

    prefix = Path(args.out)
    if args.out.endswith('/') or prefix.is_dir():
        prefix /= experiment_name(args.checkpoint)
    elif prefix.suffix in ('.pth', '.py', '.onnx'):  # which the files get themselves
        prefix = prefix.with_suffix('')
    check_out_folder(prefix.parent, f'out={args.out!r}')
    if not args.config and apis.holds_detector(args.checkpoint):
        _publish_detector(args, prefix)
        return
    where = f'--image {args.image!r}'
    UserError.check(args.image is None, where, 'a detector', f'a classifier, {args.checkpoint!r}')
    if args.network == 'best':
        args.network = apis.best_network(args.checkpoint)
        print(f'network {args.network} is the best on validation')
    classifier = apis.load_classifier(args.checkpoint, args.config, args.network)
    model, difference = apis.export_onnx(classifier) if args.onnx else (None, None)
    files = apis.publish(classifier, prefix, onnx=model, force=args.force)
    _tell(args, classifier, classifier.head.num_classes, 'logits as trained', files)
    if args.onnx:
        print(f'  logits of ONNX Runtime and PyTorch differ by {difference:.1e} at most')
    print(f'load it with mmpretrain.get_model({str(files[1])!r}, pretrained=True)')
    _try(files[0])


def _publish_detector(args: argparse.Namespace, prefix: Path) -> None:
    from hsakd import apis
    from hsakd.apis.detector import num_classes

    for option in ('config', 'network'):
        value = getattr(args, option)
        UserError.check(value is None, f'--{option} {value}', 'a classifier', 'a detector')
    both = bool(args.onnx) == bool(args.image)
    expected = '--onnx and --image FILE, in which the detector finds something, or neither'
    UserError.check(both, repr(args.checkpoint), expected, 'one of them')
    is_file = not args.image or Path(args.image).is_file()
    UserError.check(is_file, f'--image {args.image!r}', 'an image file', 'no such file')
    detector = apis.load_detector(args.checkpoint)
    model, *compared = apis.export_detector(detector, args.image) if args.onnx else (None,)
    files = apis.publish_detector(detector, prefix, onnx=model, force=args.force)
    _tell(args, detector, num_classes(detector), type(detector).__name__, files)
    if args.onnx:
        print(
            '  {} boxes in {!r}: corners of ONNX Runtime and mmdet differ by {:.1e} pixels at most,'
            ' scores by {:.1e}'.format(compared[0], args.image, *compared[1:])
        )
    imports = detector.cfg.get('custom_imports', {}).get('imports')
    needed = f' (which needs {", ".join(imports)})' if imports else ''
    paths = ', '.join(repr(str(file)) for file in (files[1], files[0]))
    print(f"load it with mmdet.apis.init_detector({paths}, device='cpu'){needed}")
    _try(files[0])


def _tell(
    args: argparse.Namespace, model: 'nn.Module', classes: int, what: str, files: list[Path]
) -> None:
    parameters = sum(p.numel() for p in model.parameters())
    print(
        f'{args.checkpoint}: {type(model.backbone).__name__}, {classes} classes, '
        f'{parameters:,} parameters; {what}'
    )
    for file in files:
        print(f'  {file} ({file.stat().st_size:,} bytes)')


def _try(file: Path) -> None:
    print(f'try it with  {typed("predict")} IMAGES --model {shlex.quote(str(file))}')

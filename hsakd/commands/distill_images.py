"""From a folder of your own images to a small network: teacher, student, baseline and report.

DIR has a subfolder for each class, or train/ and test/ (or val/) of such; without these a fifth of
each class is held out. OUT gets the configs, which `train` runs again, the work dirs of all
trainings, the published student as .pth and .onnx, and report.html. Run it again after an
interruption: it goes on.
"""

import argparse
from pathlib import Path

from hsakd.utils.cli import add_trust_option, check_out_folder, positive_number, tool_parser


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """A folder, two networks, and how to train them."""
    parser = tool_parser(__doc__)
    add = parser.add_argument
    names = 'such as resnet18, wrn-16-2, torchvision/mobilenet_v2, timm/NAME, mmpretrain/NAME'
    add('--data', required=True, metavar='DIR', help='the images')
    add('--student', default='resnet18', metavar='NAME', help=f'{names} (default: %(default)s)')
    add('--teacher', default='resnet50', metavar='NAME', help='the same (default: %(default)s)')
    weights = 'of the teacher: trained on these classes it stays as it is, else it starts from them'
    add('--teacher-weights', metavar='FILE', help=weights)
    add('--method', default='hsakd', help='or kd, dkd, crd, ... (default: %(default)s)')
    add('--image-size', type=positive_number, help='in pixels (default: by the images)')
    add('--epochs', type=positive_number, help='of each training (default: by their number)')
    add('--batch-size', type=positive_number, help='the same')
    add('--out', type=Path, default=Path('runs/distilled'), help='default: %(default)s')
    add('--no-baseline', action='store_true', help='leave out the student alone, for comparison')
    add('--seed', type=int, default=0, help='default: 0')
    add('--fast', action='store_true', help='compile the networks: about twice as fast')
    help_skip = 'leave out and count images that cannot be decoded'
    add('--skip-bad-images', action='store_true', help=help_skip)
    add_trust_option(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Call :func:`hsakd.distill`."""
    args = vars(parse_args(argv))
    check_out_folder(args['out'], '--out')
    from hsakd.apis.distillation import distill

    distill(baseline=not args.pop('no_baseline'), **args)

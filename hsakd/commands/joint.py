"""Draw the joint distribution of a branch over (class, transform), of teacher and student.

For images from files, each through the test pipeline of the config, or for images of its test set.
"""

import argparse

from hsakd.results.names import config_file
from hsakd.utils.cli import (
    CONFIG_HELP,
    add_config_options,
    add_trust_option,
    check_out_file,
    tool_parser,
)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Networks, images and the picture."""
    parser = tool_parser(__doc__)
    parser.add_argument('config', help=f'of offline distillation: {CONFIG_HELP}')
    parser.add_argument('checkpoint', help="the student's, of a training")
    parser.add_argument('images', nargs='*', metavar='IMAGE', help='an image, or a folder of them')
    parser.add_argument(
        '--indices', nargs='+', type=int, default=[], metavar='I', help='images of the test set'
    )
    parser.add_argument('--out', required=True, metavar='FILE.png', help='the picture')
    parser.add_argument(
        '--branch', type=int, metavar='L', help="the student's branch, from 1 (default: the last)"
    )
    add_config_options(parser, 'override keys of the config, e.g. model.teacher_ckpt=FILE')
    parser.add_argument('--force', action='store_true', help='replace the file')
    add_trust_option(parser)
    args = parser.parse_args(argv)
    args.config = config_file(args.config)
    if not (args.images or args.indices):
        parser.error('nothing to draw: give images, or --indices of the test set')
    return args


def main(argv: list[str] | None = None) -> None:
    """Load both networks, ask them, and draw."""
    args = parse_args(argv)
    check_out_file(args.out, force=True, suffix='.png')
    from hsakd.apis import find_images
    from hsakd.apis.joint_distribution import load_pair, read_images, test_images
    from hsakd.apis.running import load_config
    from hsakd.utils.files import write_files
    from hsakd.visualization import draw_joint_distributions

    config = load_config(args.config, args.cfg_options)
    files = [file for image in args.images for file in find_images(image)]
    pair = load_pair(config, args.checkpoint, args.branch)
    batches = []
    if files:
        batches.append(read_images(pair, files))
    if args.indices:
        batches.append(test_images(pair, args.indices))
    shown = [image for batch in batches for image in pair.examine(*batch)]
    picture = draw_joint_distributions(shown, pair.classes, pair.transforms, pair.names)
    write_files({args.out: picture}, args.force)
    print(args.out)

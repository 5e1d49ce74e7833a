"""Convert a checkpoint as the paper's authors publish it to one of hsakd.

The network, one of the paper's fourteen, is recognized by its keys, with auxiliary branches or
without. Nothing inside SRC is executed, unless --trust-checkpoint says so.
"""

import argparse
import shlex

from hsakd.commands import typed
from hsakd.utils.cli import add_trust_option, tool_parser


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Two files."""
    parser = tool_parser(__doc__)
    parser.add_argument(
        'src', metavar='SRC', help="checkpoint: {'net': weights}, or {'state_dict' or 'model': "
        'weights} of a plain network'
    )  # fmt: skip
    parser.add_argument('dst', metavar='DST', help='file to write (.pth)')
    parser.add_argument('--force', action='store_true', help='replace DST if it exists')
    add_trust_option(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Convert, write, and say what it was."""
    args = parse_args(argv)
    from hsakd.apis import convert_checkpoint

    converted = convert_checkpoint(args.src, args.dst, force=args.force)
    weights = converted['state_dict']
    branches = len({key.split('.')[1] for key in weights if key.startswith('joint_heads.')})
    # Counts of batches are buffers of one number each; running statistics are no parameters.
    parameters = sum(w.numel() for k, w in weights.items() if k.endswith(('.weight', '.bias')))
    print(
        f'{args.src}: {converted["meta"]["network"]}, {len(weights["head.fc.weight"])} classes, '
        f'{f"{branches} branches" if branches else "without branches"}, {parameters:,} parameters'
    )
    dst = shlex.quote(args.dst)
    print(f'written to {dst}; use it in {typed("test")} as the checkpoint, or as')
    if branches:
        print(f'  the teacher of a student: --cfg-options model.teacher_ckpt={dst}')
    print(f'  a frozen teacher: --cfg-options model.backbone_ckpt={dst}')
    print(f'  a plain classifier: {typed("publish")} {dst} OUT --config CONFIG')

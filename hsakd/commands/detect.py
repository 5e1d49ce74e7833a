"""From a folder of your own images with boxes to a detector: Faster R-CNN with FPN.

DIR is in the layout of VOC (Annotations/*.xml, JPEGImages), of COCO (annotations/*.json and the
images) or of YOLO (images/, labels/*.txt, and data.yaml or classes.txt); without a split a fifth of
the images is held out. OUT gets the config, which `train` runs again, the annotations as COCO's
JSON, the work dir of the training, and the published detector. Run it again after an interruption:
it goes on.
"""

import argparse
import shlex
from pathlib import Path

from hsakd.commands import typed
from hsakd.utils.cli import check_out_folder, positive_number, tool_parser


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """A folder, a backbone, and how to train."""
    parser = tool_parser(__doc__)
    add = parser.add_argument
    add('--data', required=True, metavar='DIR', help='the images')
    add(
        '--backbone',
        metavar='FILE',
        help='what it starts from: a published student, a checkpoint of a training, or a ResNet of '
        'torchvision (default: a ResNet-18 of random weights)',
    )
    add(
        '--image-size', type=positive_number, help='longest side in pixels (default: by the images)'
    )
    add('--epochs', type=positive_number, help='default: by the number of images')
    add('--batch-size', type=positive_number, help='default: 4, or 2 of fewer than 100 images')
    add('--out', type=Path, default=Path('runs/detector'), help='default: %(default)s')
    add('--seed', type=int, default=0, help='default: 0')
    add(
        '--skip-bad-images', action='store_true', help='leave out and count broken and missing ones'
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Call :func:`hsakd.detect`, and say what came out."""
    args = vars(parse_args(argv))
    check_out_folder(args['out'], '--out')
    from hsakd.apis.detection import detect

    made = detect(**args)
    print('average precision on the test images, in percent (IoU 0.5 to 0.95, and 0.5):')
    for key in made.metrics:
        kind, _, name = key.partition('/')
        if kind == 'AP':
            shown = (made.metrics[other] for other in (key, key.replace('AP', 'AP50', 1)))
            print('  {:20} {:5.1f} {:5.1f}'.format(name or 'all', *shown))
    print(made.published, made.config, made.predictions, sep='\n')
    model = shlex.quote(str(made.published))
    print(f'try it with  {typed("predict")} IMAGES --model {model}')
    print(f'ONNX:        {typed("publish")} {model} PREFIX --onnx --image IMAGE')

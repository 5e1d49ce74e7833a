"""Classify images, or find objects in them: a table of what is there, and pictures with it."""

import argparse
import contextlib
import sys
from pathlib import Path

from hsakd.utils.cli import (
    add_trust_option,
    check_out_file,
    check_out_folder,
    positive_number,
    tool_parser,
)


def fraction(text: str) -> float:
    """An ``argparse`` type: 0..1."""
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f'expected a number in 0..1, got {text!r}')


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Images, a model, and where to draw."""
    parser = tool_parser(__doc__)
    add = parser.add_argument
    add('images', metavar='IMAGE_OR_FOLDER', help='an image, or a folder (with its subfolders)')
    add(
        '--model',
        required=True,
        metavar='FILE',
        help='published student (.pth), or checkpoint of a training: of a classifier or a detector',
    )
    add(
        '--topk',
        type=positive_number,
        help='classes or objects to show of each image, best first (default: 5 classes; all objects'
        ' above --score-thr)',
    )
    add(
        '--score-thr',
        type=fraction,
        help='show objects with a higher score, 0..1; for detectors (default: 0.3)',
    )
    add(
        '--out',
        type=Path,
        default=Path('work_dirs/predict'),
        help='folder for the pictures, IMAGE.png each; earlier ones are replaced '
        '(default: work_dirs/predict)',
    )
    add(
        '--predictions',
        metavar='FILE',
        help='write what is found to a .json or .csv file too, which replaces an earlier one',
    )
    add('--device', help="'cpu', 'cuda', 'cuda:1', ...; a GPU if there is one")
    add(
        '--skip-bad-images',
        action='store_true',
        help='leave out and count images that cannot be decoded',
    )
    add_trust_option(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Find images, load the model, predict, and show."""
    args = parse_args(argv)
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from hsakd import apis
    from hsakd.utils.device import find_device
    from hsakd.utils.errors import DataError, UserError

    out = f'--out={str(args.out)!r}'
    check_out_folder(args.out, out)
    check_out_file(args.predictions, True, '--predictions', ('.json', '.csv'))
    root = Path(args.images).expanduser()
    images = apis.find_images(root)
    # Its pictures would be taken for images next time.
    inside = root.is_dir() and args.out.resolve().is_relative_to(root.resolve())
    DataError.check(not inside, out, 'a folder elsewhere', f'one inside {args.images!r}')
    device = find_device(args.device)
    is_detector = apis.holds_detector(args.model, key='--model')
    UserError.check(
        is_detector or args.score_thr is None,
        f'--score-thr={args.score_thr}',
        'a detector, or --topk alone',
        f'a classifier, --model={args.model!r}',
    )
    images, bad = apis.readable_images(images)
    if bad and not args.skip_bad_images:
        more = f' ({len(bad)} images in all)' if len(bad) > 1 else ''
        raise DataError(f'{next(iter(bad.values()))}{more}')
    for image in bad:
        print(f'skipped, cannot be decoded: {image}', file=sys.stderr)
    expected, found = 'an image that can be decoded', f'none of {len(bad)}'
    DataError.check(images, repr(args.images), expected, found)
    load = apis.load_detector if is_detector else apis.load_classifier
    model = load(args.model, key='--model').to(device)

    folder = root if root.is_dir() else root.parent
    pictures = {image: args.out / f'{image.relative_to(folder)}.png' for image in images}
    table = Table('image', 'class', 'score')
    table.columns[0].overflow = table.columns[1].overflow = 'fold'
    table.columns[2].justify = 'right'
    if is_detector:
        table.add_column('box (x1 y1 x2 y2)', justify='right', no_wrap=True)
        threshold = 0.3 if args.score_thr is None else args.score_thr
        predictions = apis.detect(model, images, threshold, args.topk, pictures)
    else:
        predictions = apis.predict(model, images, args.topk or 5, pictures)
    progress = track(
        predictions, 'predicting', len(images), console=Console(stderr=True), transient=True
    )
    found = []
    for prediction in progress:
        found.append(prediction)
        columns = [prediction.classes, [f'{score:.3f}' for score in prediction.scores]]
        if is_detector:
            columns.append([' '.join(f'{v:6.1f}' for v in box) for box in prediction.boxes])
        rows = list(zip(*columns, strict=True)) or [(f'nothing above {threshold:g}',)]
        names = [str(prediction.image.relative_to(folder))] + [''] * (len(rows) - 1)
        for name, row in zip(names, rows, strict=True):
            table.add_row(name, *row)
        table.add_section()
    Console().print(table)
    if args.predictions:
        apis.save_predictions(found, args.predictions, folder)
    skipped = f'; {len(bad)} skipped, since they cannot be decoded' if bad else ''
    print(f'images: {len(images)}{skipped}; pictures in {args.out}')

#!/usr/bin/env python
"""Classify images: a table of the best classes, and pictures with them."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hsakd.utils.cli import check_out_folder, positive_number, run_tool  # noqa: E402


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Images, a model, and where to draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'images', metavar='IMAGE_OR_FOLDER', help='an image, or a folder (with its subfolders)'
    )
    parser.add_argument(
        '--model',
        required=True,
        metavar='FILE',
        help='published student (.pth), or checkpoint of tools/train.py',
    )
    parser.add_argument(
        '--topk', type=positive_number, default=5, help='classes to show (default: 5)'
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/predict'),
        help='folder for the pictures, IMAGE.png each; earlier ones are replaced '
        '(default: work_dirs/predict)',
    )
    parser.add_argument('--device', help="'cpu', 'cuda', 'cuda:1', ...; a GPU if there is one")
    parser.add_argument(
        '--skip-bad-images',
        action='store_true',
        help='leave out and count images that cannot be decoded',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Find images, load the model, predict, and show."""
    args = parse_args(argv)
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from hsakd.apis import find_images, load_classifier, predict, readable_images
    from hsakd.utils.device import find_device
    from hsakd.utils.errors import DataError

    check_out_folder(args.out, f'--out={str(args.out)!r}')
    root = Path(args.images).expanduser()
    images = find_images(root)
    if root.is_dir() and args.out.resolve().is_relative_to(root.resolve()):
        raise DataError(
            f'--out={str(args.out)!r} is inside {args.images!r}, and its pictures would be taken '
            'for images next time; accepted is a folder elsewhere'
        )
    device = find_device(args.device)
    images, bad = readable_images(images)
    if bad and not args.skip_bad_images:
        more = f' ({len(bad)} images in all)' if len(bad) > 1 else ''
        raise DataError(f'{next(iter(bad.values()))}{more}')
    for image in bad:
        print(f'skipped, cannot be decoded: {image}', file=sys.stderr)
    if not images:
        raise DataError(f'{args.images!r}: none of {len(bad)} images can be decoded')
    classifier = load_classifier(args.model, key='--model').to(device)

    folder = root if root.is_dir() else root.parent
    pictures = {image: args.out / f'{image.relative_to(folder)}.png' for image in images}
    table = Table('image', 'class', 'score')
    table.columns[0].overflow = table.columns[1].overflow = 'fold'
    table.columns[2].justify = 'right'
    predictions = predict(classifier, images, args.topk, pictures)
    progress = track(
        predictions, 'predicting', len(images), console=Console(stderr=True), transient=True
    )
    for prediction in progress:
        names = [str(prediction.image.relative_to(folder))] + [''] * (len(prediction.classes) - 1)
        for row in zip(names, prediction.classes, prediction.scores, strict=True):
            table.add_row(row[0], row[1], f'{row[2]:.3f}')
        table.add_section()
    Console().print(table)
    skipped = f'; {len(bad)} skipped, since they cannot be decoded' if bad else ''
    print(f'images: {len(images)}{skipped}; pictures in {args.out}')


if __name__ == '__main__':
    run_tool(main)

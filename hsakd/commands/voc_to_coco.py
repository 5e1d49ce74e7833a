"""Convert annotations in the layout of PASCAL VOC to COCO's JSON.

    voc_to_coco.py data/VOCdevkit VOC2007/trainval VOC2012/trainval --out voc0712_trainval.json
    voc_to_coco.py data/BCCD train --classes WBC RBC Platelets --out bccd_train.json

They are read, checked and cleaned as hsakd.VOCDataset does, and hsakd.CocoDataset of the JSON (with
data_root=ROOT) trains on the same boxes. As in mmdet's own converter, x and y are VOC's minus 1,
width is xmax - xmin and height ymax - ymin; difficult objects have iscrowd=1, so that neither
training nor evaluation counts them. Categories are numbered from 1 in the order of the classes.
"""

import argparse
import json
import os
from collections import Counter
from pathlib import Path

from hsakd.utils.cli import check_out_file, tool_parser
from hsakd.utils.errors import DataError
from hsakd.utils.files import write_files


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """What to read, and where to write."""
    parser = tool_parser(__doc__)
    parser.add_argument('root', type=Path, help='images are named relative to this folder')
    parser.add_argument(
        'splits',
        nargs='+',
        metavar='split',
        help='NAME of ROOT/ImageSets/Main/NAME.txt, or FOLDER/NAME of '
        'ROOT/FOLDER/ImageSets/Main/NAME.txt; several make one JSON',
    )
    parser.add_argument('--out', type=Path, required=True, help='JSON file to write')
    parser.add_argument('--classes', nargs='+', help="names in order (default: VOC's 20)")
    parser.add_argument(
        '--ignore-other-classes', action='store_true', help='leave out boxes of other classes'
    )
    parser.add_argument(
        '--skip-bad-images',
        action='store_true',
        help='leave out and count images that are missing, cannot be decoded, or have a broken '
        'annotation',
    )
    parser.add_argument('--force', action='store_true', help='replace a file of other content')
    return parser.parse_args(argv)


def read_split(root: Path, split: str, args: argparse.Namespace) -> tuple[list[dict], list[str]]:
    """Images with instances as mmdet has them, and the classes."""
    from hsakd.datasets.detection import VOCDataset

    folder, name = root / Path(split).parent, Path(split).name
    dataset = VOCDataset(
        data_root=str(folder),
        ann_file=f'ImageSets/Main/{name}.txt',
        metainfo=dict(classes=tuple(args.classes)) if args.classes else None,
        test_mode=True,
        ignore_other_classes=args.ignore_other_classes,
        skip_bad_images=args.skip_bad_images,
    )
    images = [dataset.get_data_info(index) for index in range(len(dataset))]
    return images, list(dataset.metainfo['classes'])


def to_coco(root: Path, images: list[dict], classes: list[str]) -> dict[str, list[dict]]:
    """COCO's content for images of :func:`read_split`.

    Raises:
        DataError: An image comes twice.
    """
    content = dict(
        images=[],
        annotations=[],
        categories=[
            dict(id=i, name=name, supercategory='none') for i, name in enumerate(classes, 1)
        ],
    )
    seen = set()
    for image_id, image in enumerate(images, 1):
        file_name = os.path.relpath(image['img_path'], root)
        DataError.check(file_name not in seen, file_name, 'one split', 'several')
        seen.add(file_name)
        content['images'].append(
            dict(id=image_id, file_name=file_name, width=image['width'], height=image['height'])
        )
        for instance in image['instances']:
            x1, y1, x2, y2 = instance['bbox']
            content['annotations'].append(
                dict(
                    id=len(content['annotations']) + 1,
                    image_id=image_id,
                    category_id=instance['bbox_label'] + 1,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                    iscrowd=instance['ignore_flag'],
                    ignore=0,
                )
            )
    return content


def main(argv: list[str] | None = None) -> None:
    """Read, check, write, and say what was found."""
    args = parse_args(argv)
    check_out_file(args.out, force=True, suffix='.json')
    from hsakd.utils.third_party import import_mmdet

    import_mmdet()
    images = []
    for split in args.splits:
        part, classes = read_split(args.root, split, args)
        images += part
        print(f'{split}: {len(part)} images')
    content = to_coco(args.root, images, classes)
    write_files({args.out: json.dumps(content).encode()}, force=args.force)

    counts = Counter(entry['category_id'] for entry in content['annotations'])
    difficult = sum(entry['iscrowd'] for entry in content['annotations'])
    print(f'{args.out}: {len(images)} images, {counts.total()} boxes ({difficult} difficult)')
    for category in content['categories']:
        print(f'  {category["id"]:3} {category["name"]:16} {counts[category["id"]]:7}')

#!/usr/bin/env python
"""What the last map of backbones knows of the boxes of a detector's data.

A logistic regression tells from each cell of the map, standardized, the class of the smallest box
that holds its center, or that there is none. Learned on a part of the cells of the training images;
average precision by class is that of all cells of the validation images, of which a class has the
share called chance. The regression has one optimum, so that, unlike a short training of a detector,
it does not depend on the scale of the map.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.registry import DefaultScope
from mmengine.runner import Runner, set_random_seed
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hsakd.apis.detector_comparison import initializations  # noqa: E402
from hsakd.apis.running import is_detection, load_config  # noqa: E402
from hsakd.engine.pretrained_backbone import (  # noqa: E402
    KEY,
    RANDOM,
    load_pretrained_backbone,
    prepare_pretrained_backbone,
)
from hsakd.results.tables import markdown_table  # noqa: E402
from hsakd.utils.cli import (  # noqa: E402
    add_config_options,
    positive_number,
    print_markdown,
    run_tool,
    tool_parser,
)
from hsakd.utils.errors import ConfigError  # noqa: E402
from hsakd.utils.third_party import import_mmdet  # noqa: E402


def build(config: Config, source: str, seed: int) -> nn.Module:
    """The detector of a config with its backbone loaded, or random."""
    from mmdet.registry import MODELS

    config[KEY] = source
    prepare_pretrained_backbone(config)
    set_random_seed(seed)
    model = MODELS.build(config.model)
    if source == RANDOM:
        model.init_weights()
    else:
        load_pretrained_backbone(model, source, config.get('pretrained_network'))
    model.eval()
    return model


def classes_of_cells(
    boxes: Tensor, labels: Tensor, image_size: Sequence[int], map_size: Sequence[int]
) -> Tensor:
    """The class of each cell of a map [H, W]; that of no box is -1.

    Args:
        boxes: [N, 4] corners in pixels of the image.
        labels: [N].
        image_size: Height and width of the image, in pixels.
        map_size: H and W.
    """
    sizes = zip(map_size, image_size, strict=True)
    y, x = ((torch.arange(number) + 0.5) * pixels / number for number, pixels in sizes)
    found = torch.full(tuple(map_size), -1)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for i in areas.argsort(descending=True):
        x1, y1, x2, y2 = boxes[i]
        found[((y >= y1) & (y <= y2))[:, None] & ((x >= x1) & (x <= x2))] = labels[i]
    return found


@torch.no_grad()
def cells(
    model: nn.Module, dataset: dict, pipeline: list[dict], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Features [cells, C] of the last map, and classes [cells], of the images of a data set."""
    loader = dict(
        batch_size=1,
        dataset=dict(dataset, pipeline=pipeline),
        sampler=dict(type=DefaultSampler, shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
    )
    features, classes = [], []
    set_random_seed(seed)
    for data in Runner.build_dataloader(loader, seed):
        data = model.data_preprocessor(data)
        (image,), (sample,) = data['inputs'], data['data_samples']
        height, width = sample.img_shape  # without what it is padded with
        feature_map = model.backbone(image[None, :, :height, :width])[-1][0]
        boxes, sizes = sample.gt_instances, (sample.img_shape, feature_map.shape[1:])
        features.append(feature_map.flatten(1).T)
        classes.append(classes_of_cells(boxes.bboxes, boxes.labels, *sizes).flatten())
    return torch.cat(features).numpy(), torch.cat(classes).numpy()


def main(argv: list[str] | None = None) -> None:
    """Print a row of average precisions for each start."""
    parser = tool_parser(__doc__)
    parser.add_argument('config', help='of a detector')
    starts = 'checkpoints of backbones; or random'
    parser.add_argument('--init', nargs='+', required=True, metavar='NAME=FILE', help=starts)
    learned = 'cells to learn from (default: %(default)s)'
    parser.add_argument('--cells', type=positive_number, default=120_000, help=learned)
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    add_config_options(parser, 'of the config')
    args = parser.parse_args(argv)
    import_mmdet()
    rows = []
    for name, by_seed in initializations(args.init, [args.seed]).items():
        config = load_config(args.config, args.cfg_options)
        ConfigError.check(is_detection(config), 'CONFIG', 'one of a detector', args.config)
        train, val = (config[f'{split}_dataloader'].dataset for split in ('train', 'val'))
        where, accepted = 'train_dataloader.dataset', 'a data set with classes and a pipeline'
        ConfigError.check({'metainfo', 'pipeline'} <= train.keys(), where, accepted, train.type)
        names = train.metainfo.classes
        with DefaultScope.overwrite_default_scope('mmdet'):
            model = build(config, by_seed[args.seed][0], args.seed)
            # Both by the pipeline of training, which resizes boxes with the image.
            features, classes = cells(model, train, train.pipeline, args.seed)
            tested, truth = cells(model, val, train.pipeline, args.seed)
        some = np.random.default_rng(args.seed).permutation(len(classes))[: args.cells]
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        probe.fit(features[some], classes[some])
        scores = dict(zip(probe.classes_, probe.predict_proba(tested).T, strict=True))
        scores = [scores.get(i, np.zeros(len(truth))) for i in range(len(names))]
        found = [average_precision_score(truth == i, score) for i, score in enumerate(scores)]
        rows.append((name, *(f'{100 * value:.1f}' for value in found)))
    rows.append(('chance', *(f'{100 * np.mean(truth == i):.1f}' for i in range(len(names)))))
    print_markdown(markdown_table(('backbone', *names), rows))


if __name__ == '__main__':
    run_tool(main)

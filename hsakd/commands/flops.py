"""Parameters and multiply-adds of the networks of a config: at inference, and with branches."""

import argparse
import sys

from hsakd.results.names import config_file
from hsakd.utils.cli import CONFIG_HELP, positive_number, tool_parser


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """A config, and the size of an image."""
    parser = tool_parser(__doc__)
    parser.add_argument('config', help=CONFIG_HELP)
    help_ = 'height (and width) of an image (32)'
    parser.add_argument('--shape', type=positive_number, nargs='+', default=[32], help=help_)
    args = parser.parse_args(argv)
    args.config = config_file(args.config)
    if len(args.shape) > 2:
        parser.error(f'--shape: expected one or two numbers, got {len(args.shape)}')
    return args


def main(argv: list[str] | None = None) -> None:
    """Build on the meta device, where a forward pass computes shapes only, and count."""
    args = parse_args(argv)
    import torch
    from rich.console import Console
    from rich.table import Table
    from torch.utils.flop_counter import FlopCounterMode

    import hsakd  # noqa: F401  registers hsakd's types
    from hsakd.apis.running import is_detection, load_config
    from hsakd.engine.building import building
    from hsakd.registry import MODELS
    from hsakd.utils.errors import ConfigError
    from hsakd.utils.networks import frozen_networks, image_channels, trained_networks

    config = load_config(args.config)
    kind = "a classifier or a distiller (mmdet's own get_flops.py is for detectors)"
    ConfigError.check(not is_detection(config), f'config {args.config!r}', kind, 'a detector')
    height, width = (args.shape * 2)[:2]
    model = MODELS.build(config.model).to('meta').eval()
    networks = trained_networks(model) | frozen_networks(model)

    table = Table('network', 'what', 'parameters (M)', 'multiply-adds an image (M)', 'times')
    for column in table.columns[2:]:
        column.justify = 'right'
    for name, network in networks.items():
        channels = image_channels(network.backbone)
        images = torch.empty(1, channels, height, width, device='meta')
        with building(f'--shape {height} {width}'), FlopCounterMode(display=False) as head:
            network.head(network.extract_feat(images))
        parts = [network.backbone, network.head]
        rows = [('inference: its own head', parts, head)]
        if network.num_branches:
            m = network.transforms.num_transforms
            with FlopCounterMode(display=False) as joint:
                network.logits(network.transforms(images))
            parts = [*parts, network.branches, network.joint_heads]
            rows.append((f'with branches, on {m} copies: training, aggregated', parts, joint))
        for what, modules, flops in rows:
            parameters = sum(p.numel() for module in modules for p in module.parameters())
            total = flops.get_total_flops()
            table.add_row(
                name.removeprefix('model.'),
                what,
                f'{parameters / 1e6:.3f}',
                f'{total / 2e6:,.1f}',
                f'{total / head.get_total_flops():.1f}',
            )
    Console(width=None if sys.stdout.isatty() else 120).print(table)

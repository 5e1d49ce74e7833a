#!/usr/bin/env python
"""Time Winograd convolutions against torch's direct ones on this CPU, and compare their errors."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import conv2d

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

from timing import interleaved, machine, quartiles, show_machine, show_table, spread  # noqa: E402

from hsakd.utils.cli import check_out_file, positive_number, run_tool  # noqa: E402

#: Channels in and out, height and stride: the stages of ResNets, of Wide ResNets, and their starts.
LAYERS = (
    *((channels, channels, height, 1) for channels, height in ((16, 32), (32, 16), (64, 8))),
    *((channels, channels, height, 1) for channels, height in ((32, 32), (64, 16), (128, 8))),
    *((16, 32, 32, 2), (32, 64, 16, 2), (32, 64, 32, 2), (64, 128, 16, 2)),
)
PARTS = ('forward', 'input gradient', 'weight gradient')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--maps', type=positive_number, default=64, metavar='N', help='in a batch (64)')
    add('--rounds', type=positive_number, default=30, help='that are timed (30)')
    add('--out', type=Path, metavar='FILE.json', help='all figures')
    add('--force', action='store_true', help='replace the file')
    return parser.parse_args()


def main() -> None:
    """Measure each layer, report."""
    args = parse_args()
    check_out_file(args.out, args.force)
    from hsakd import ops  # noqa: F401  registers the operators
    from hsakd.utils.files import write_files

    torch.manual_seed(0)
    report = dict(machine=machine(), maps=args.maps, rounds=args.rounds, layers=[])
    show_machine(report['machine'])
    for layer in LAYERS:
        report['layers'].append(measure(args.maps, *layer, args.rounds))
    rows = []
    for layer in report['layers']:
        for part in PARTS:
            direct, winograd = layer[part]['direct'], layer[part]['winograd']
            shape = '{inputs} to {outputs} channels, {height}x{height}, stride {stride}'
            rows.append(
                [shape.format(**layer), part]
                + [
                    spread([1e3 * s for s in quartiles(f['seconds'])], 2)
                    for f in (direct, winograd)
                ]
                + [f'{quartiles(direct["seconds"])[1] / quartiles(winograd["seconds"])[1]:.2f}']
                + [f'{figures["error"]:.1e}' for figures in (direct, winograd)]
            )
    show_table(
        f'{args.maps} maps in channels_last: ms, medians (quartiles), and relative difference from '
        'float64',
        ['layer', '', 'direct', 'Winograd', 'ratio', 'direct differs', 'Winograd differs'],
        rows,
    )
    if args.out:
        write_files({args.out: json.dumps(report, indent=2).encode() + b'\n'}, args.force)
        print(args.out)


def measure(maps: int, inputs: int, outputs: int, height: int, stride: int, rounds: int) -> dict:
    """Seconds and errors of a 3x3 convolution, its input's and its weights' gradient."""
    nhwc = dict(memory_format=torch.channels_last)
    x = torch.randn(maps, inputs, height, height).to(**nhwc)
    gradient = torch.randn(maps, outputs, height // stride, height // stride).to(**nhwc)
    weight = torch.randn(outputs, inputs, 3, 3).to(**nhwc)

    def backward(part: int, *tensors: Tensor) -> Tensor:
        ones, mask = [1, 1], [part == 0, part == 1, False]
        args = (None, [stride, stride], ones, ones, False, [0, 0], 1, mask)
        return torch.ops.aten.convolution_backward(*tensors, *args)[part]

    winograd = torch.ops.hsakd
    calls: dict[str, list[Callable[..., Tensor]]] = {
        'forward': [
            lambda g, x, w: conv2d(x, w, None, stride, padding=1),
            lambda g, x, w: winograd.winograd(x, w, stride),
        ],
        'input gradient': [
            lambda *tensors: backward(0, *tensors),
            lambda g, x, w: winograd.winograd_gradient(g, w, stride, height, height),
        ],
        'weight gradient': [
            lambda *tensors: backward(1, *tensors),
            lambda g, x, w: winograd.winograd_weight_gradient(x, g, stride),
        ],
    }
    tensors = gradient, x, weight
    found = dict(inputs=inputs, outputs=outputs, height=height, stride=stride)
    with torch.no_grad():
        for part, (direct, ours) in calls.items():
            exact = direct(*(tensor.double() for tensor in tensors))
            timed = dict(direct=lambda: direct(*tensors), winograd=lambda: ours(*tensors))  # noqa: B023
            for call in timed.values():
                call()
            seconds = interleaved(timed, rounds, 1)
            found[part] = {
                name: dict(
                    seconds=seconds[name],
                    error=(torch.dist(call().double(), exact) / exact.norm()).item(),
                )
                for name, call in timed.items()
            }
    return found


if __name__ == '__main__':
    run_tool(main)

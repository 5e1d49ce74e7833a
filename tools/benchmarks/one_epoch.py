#!/usr/bin/env python
"""Put one epoch of online training beside the authors' log of theirs.

Of `train.py configs/hsakd/hsakd-online_NETWORK_1xb64-1e_cifar100.py`, logged at each iteration and
with accuracies of training (docs/results.md has the commands). Loss, cls (all cross entropies) and
div (all KL terms) are means over the batches, of both networks together; accuracies are the heads'.
The curves are those of runs that are not finished, too.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from hsakd.results.runs import Run, find_runs  # noqa: E402
from hsakd.utils.cli import (  # noqa: E402
    add_work_dirs,
    check_out_file,
    print_markdown,
    run_tool,
    tool_parser,
)
from hsakd.utils.files import write_files  # noqa: E402

#: As logged by the authors, with seed 0.
AUTHORS = {
    'wrn-40-1': ('43.850', '43.648', '0.202', '4.34, 4.98', '7.79, 8.39'),
    'wrn-40-2': ('42.882', '42.710', '0.172', '6.61, 6.59', '10.55, 9.76'),
    'resnet56': ('43.331', '42.944', '0.388', '4.65, 4.82', '8.75, 8.74'),
    'resnet32x4': ('39.457', '38.968', '0.488', '10.91, 10.58', '15.11, 16.30'),
    'vgg13': ('47.547', '47.176', '0.371', '13.58, 13.47', '20.97, 21.44'),
    'mobilenet-v2': ('51.979', '51.517', '0.463', '8.34, 8.09', '14.32, 14.71'),
    'shufflenet-v1': ('41.145', '39.776', '1.369', '10.25, 10.37', '16.44, 13.70'),
    'shufflenet-v2': ('41.962', '41.704', '0.258', '7.11, 6.87', '12.18, 12.08'),
}
COLUMNS = ('network', '', 'loss', 'cls', 'div', 'heads, training', 'heads, test')
CURVES = ('network', 'mode', 'seed', 'iteration', 'loss', 'cls', 'div', 'head 0', 'head 1')
#: Iterations of which the curves give the mean.
MEAN_OF = 50


def mode(run: Run) -> str:
    """How it was trained."""
    return 'fast' if run.settings.get('fast') else 'exact'


def training(run: Run) -> list[dict[str, float]]:
    """What was logged of its iterations."""
    return [record for record in run.records if 'loss' in record]


def means(records: list[dict[str, float]]) -> list[float]:
    """Loss, cls, div and top-1 of both heads in training, over some iterations."""
    log = {key: np.mean([record[key] for record in records]) for key in records[0]}
    div = sum(value for key, value in log.items() if '_loss_kd_' in key)
    cls = sum(value for key, value in log.items() if '_loss_' in key) - div
    return [cls + div, cls, div, *(log.get(f'net{i}_accuracy_top1', np.nan) for i in range(2))]


def measured(run: Run) -> tuple[str, ...]:
    """The figures of a run, as those of the authors."""
    loss, cls, div, *trained = means(training(run))
    test = [run.metrics[f'net{i}/accuracy/top1'] for i in range(2)]
    heads = [', '.join(f'{v:.2f}' for v in pair if not np.isnan(v)) for pair in (trained, test)]
    return f'{loss:.3f}', f'{cls:.3f}', f'{div:.3f}', *heads


def curves(runs: Mapping[str, list[Run]]) -> str:
    """The same by iteration, as CSV: a line for each 50, with the first of them."""
    lines = [','.join(CURVES)]
    for network, run in ((name, run) for name in runs for run in runs[name]):
        records = training(run)
        for first in range(0, len(records), MEAN_OF):
            values = ','.join(f'{v:.3f}' for v in means(records[first : first + MEAN_OF]))
            lines.append(f'{network},{mode(run)},{run.seed},{first + 1},{values}')
    return '\n'.join(lines) + '\n'


def main(argv: list[str] | None = None) -> None:
    """Find, compute, print."""
    parser = tool_parser(__doc__)
    add_work_dirs(parser)
    parser.add_argument('--out', metavar='FILE.md', help='write the table as Markdown')
    parser.add_argument('--curves', metavar='FILE.csv', help='write means of each 50 iterations')
    args = parser.parse_args(argv)
    check_out_file(args.out, force=True)
    check_out_file(args.curves, force=True, option='--curves')
    found = [run for run in find_runs(args.work_dirs)[0] if training(run)]
    runs = {
        network: [run for run in found if run.name == f'hsakd-online_{network}_1xb64-1e_cifar100']
        for network in AUTHORS
    }
    rows = [COLUMNS, ['---'] * len(COLUMNS)]
    for network, figures in AUTHORS.items():
        runs[network].sort(key=lambda run: (mode(run), run.seed))
        ours = [run for run in runs[network] if run.finished and run.length == 1]
        rows += [(network, 'authors', *figures)] * bool(ours)
        rows += [(network, f'{mode(run)}, seed {run.seed}', *measured(run)) for run in ours]
    text = '\n'.join(f'| {" | ".join(row)} |' for row in rows) + '\n'
    if args.out:
        write_files({args.out: text.encode()}, force=True)
    if args.curves:
        write_files({args.curves: curves(runs).encode()}, force=True)
    print_markdown(text)


if __name__ == '__main__':
    run_tool(main)

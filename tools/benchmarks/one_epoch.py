#!/usr/bin/env python
"""Put one epoch of online training beside the authors' log of theirs.

Of `train.py configs/hsakd/hsakd-online_NETWORK_1xb64-1e_cifar100.py`, logged at each iteration and
with accuracies of training (docs/results.md has the commands). Loss, cls (all cross entropies) and
div (all KL terms) are means over the batches, of both networks together; accuracies are the heads'.
"""

import sys
from pathlib import Path

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


def measured(run: Run) -> tuple[str, ...]:
    """The figures of a run, as those of the authors."""
    terms = {key: run.curve(key)[1] for key in run.keys if '_loss_' in key}
    div = sum(value for key, value in terms.items() if '_kd_' in key)
    cls = sum(value for key, value in terms.items() if '_kd_' not in key)
    training = [run.curve(f'net{i}_accuracy_top1').get(1) for i in range(2)]
    test = [run.metrics[f'net{i}/accuracy/top1'] for i in range(2)]
    heads = [', '.join('' if v is None else f'{v:.2f}' for v in pair) for pair in (training, test)]
    return f'{cls + div:.3f}', f'{cls:.3f}', f'{div:.3f}', *heads


def main(argv: list[str] | None = None) -> None:
    """Find, compute, print."""
    parser = tool_parser(__doc__)
    add_work_dirs(parser)
    parser.add_argument('--out', metavar='FILE.md', help='write the table as Markdown')
    args = parser.parse_args(argv)
    check_out_file(args.out, force=True)
    runs = [run for run in find_runs(args.work_dirs)[0] if run.finished and run.length == 1]
    rows = [COLUMNS, ['---'] * len(COLUMNS)]
    for network, figures in AUTHORS.items():
        name = f'hsakd-online_{network}_1xb64-1e_cifar100'
        ours = [run for run in runs if run.name == name]
        rows += [(network, 'authors', *figures)] * bool(ours)
        rows += [
            (network, f'seed {run.seed}', *measured(run))
            for run in sorted(ours, key=lambda run: run.seed)
        ]
    text = '\n'.join(f'| {" | ".join(row)} |' for row in rows) + '\n'
    if args.out:
        write_files({args.out: text.encode()}, force=True)
    print_markdown(text)


if __name__ == '__main__':
    run_tool(main)

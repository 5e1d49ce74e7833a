#!/usr/bin/env python
"""Train teacher, plain student and distilled student on digits, and show what distillation gained.

Runs tools/train.py three times a seed; minutes on the CPU, nothing to download.
"""

import argparse
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hsakd.utils.cli import run_tool  # noqa: E402
from hsakd.utils.errors import UserError  # noqa: E402

if TYPE_CHECKING:
    import numpy as np
    from mmengine.dataset import BaseDataset
    from rich.console import Console

    from hsakd.visualization import Comparison


@dataclass(frozen=True)
class Part:
    """One of the three trainings."""

    folder: str
    role: str
    network: str
    config: str  # in configs/


PARTS = (
    Part('teacher', 'teacher', 'WRN-16-2', 'hsakd/hsakd-teacher_wrn-16-2_1xb64-80e_digits.py'),
    Part('baseline', 'plain student', 'WRN-10-1', 'baseline/wrn-10-1_1xb64-80e_digits.py'),
    Part(
        'distilled',
        'distilled student',
        'WRN-10-1',
        'hsakd/hsakd-offline_wrn-16-2_wrn-10-1_1xb64-80e_digits.py',
    ),
)
TAIL = 15  # lines of output shown of a training that failed


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--work-dir', default='work_dirs/quickstart', help='folder for everything (%(default)s)'
    )
    parser.add_argument(
        '--seed',
        '--seeds',
        dest='seeds',
        nargs='+',
        type=int,
        default=[0],
        help='one or more seeds, e.g. --seeds 0 1 2: mean and spread (default: 0)',
    )
    parser.add_argument('--epochs', type=int, help='shorten or prolong each training')
    return parser.parse_args()


def train_command(part: Part, work_dir: Path, seed: int, epochs: int, default: int) -> list[str]:
    """Arguments after ``python``, with as few options as do; ``work_dir`` is that of the seed."""
    options = [f'randomness.seed={seed}']
    if part.folder == 'distilled':
        options.append(f'model.teacher_ckpt={work_dir / "teacher" / f"epoch_{epochs}.pth"}')
    if epochs != default:
        milestones = ','.join(str(max(1, int(share * epochs))) for share in (0.6, 0.8, 0.94))
        options += [
            f'train_cfg.max_epochs={epochs}',
            f'param_scheduler.milestones=[{milestones}]',
        ]
    return [
        os.path.relpath(ROOT / 'tools' / 'train.py'),
        os.path.relpath(ROOT / 'configs' / part.config),
        '--work-dir',
        str(work_dir / part.folder),
        '--cfg-options',
        *options,
    ]


def train(
    command: Sequence[str], role: str, work_dir: Path, epochs: int, console: 'Console'
) -> tuple[float, list[dict[str, float]]]:
    """Run a command under a progress bar, its output in a file.

    If it fails, the end of that file goes to the screen and its status is this tool's.

    Returns:
        Seconds it took, and the records of its scalars.json.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from hsakd.visualization import read_scalars

    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        log = work_dir / 'output.log'
        output = log.open('w')
    except OSError as error:
        raise UserError(f'--work-dir: cannot write to {str(work_dir)!r}: {error}') from error
    earlier = set(work_dir.glob('*/vis_data/scalars.json'))
    history: list[dict[str, float]] = []
    columns = (
        TextColumn('      epoch'),
        MofNCompleteColumn(),
        BarColumn(20),
        TimeElapsedColumn(),
        TextColumn('{task.fields[figures]}'),
    )
    start = time.perf_counter()
    with (
        output,
        Progress(*columns, console=console) as progress,
        subprocess.Popen(
            [sys.executable, *command], stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        task = progress.add_task('', total=epochs, figures='starting')
        try:
            running = True
            while running:
                running = process.poll() is None
                for scalars in set(work_dir.glob('*/vis_data/scalars.json')) - earlier:
                    history = read_scalars(scalars)
                    progress.update(task, **latest(history))
                time.sleep(0.2)
        finally:
            process.terminate()  # if this tool was interrupted
    if process.returncode:
        lines = log.read_text(errors='replace').splitlines()[-TAIL:]
        print(*lines, sep='\n', file=sys.stderr)
        print(
            f'error: training the {role} failed with status {process.returncode}; above is the end '
            f'of {str(log)!r}',
            file=sys.stderr,
        )
        sys.exit(process.returncode if process.returncode > 0 else 128 - process.returncode)
    return time.perf_counter() - start, history


def latest(history: Sequence[dict[str, float]]) -> dict[str, object]:
    """What a progress bar shows: the epoch, last loss and last accuracy."""
    last = {key: value for record in history for key, value in record.items()}
    names = {'loss': ('loss', '.3f'), 'accuracy/top1': ('top-1', '.1f')}
    figures = [f'{name} {last[key]:{form}}' for key, (name, form) in names.items() if key in last]
    return dict(completed=last.get('epoch', 0), figures='  '.join(figures))


@cache
def digits(loader: str) -> 'BaseDataset':
    """The data set of a data loader of the configs."""
    from hsakd.apis.running import load_config
    from hsakd.registry import DATASETS

    return DATASETS.build(load_config(str(ROOT / 'configs' / PARTS[0].config))[loader].dataset)


def examine(checkpoint: Path) -> tuple[int, 'np.ndarray']:
    """Parameters of a network as it is deployed, and the classes that it gives the test images."""
    import numpy as np
    from mmengine.dataset import pseudo_collate

    from hsakd.apis import load_classifier

    classifier = load_classifier(checkpoint)
    test_set = digits('test_dataloader')
    samples = classifier.test_step(pseudo_collate([test_set[i] for i in range(len(test_set))]))
    parameters = sum(parameter.numel() for parameter in classifier.parameters())
    return parameters, np.array([sample.pred_label.item() for sample in samples])


def train_all(args: argparse.Namespace, console: 'Console') -> 'Comparison':
    """The three trainings of every seed."""
    import numpy as np
    from mmengine.config import Config

    from hsakd.visualization import Comparison, Run

    default = Config.fromfile(ROOT / 'configs' / PARTS[0].config).train_cfg.max_epochs
    epochs = args.epochs or default
    runs = []
    for seed in args.seeds:
        work_dir = Path(args.work_dir)
        if len(args.seeds) > 1:
            work_dir /= f'seed_{seed}'
        for part in PARTS:
            command = train_command(part, work_dir, seed, epochs, default)
            shown = shlex.join(['python', *command])
            step = f'[{len(runs) + 1}/{len(args.seeds) * len(PARTS)}]'
            console.print(
                f'{step} {part.role}, seed {seed}\n$ {shown}',
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
            folder = work_dir / part.folder
            seconds, history = train(command, part.role, folder, epochs, console)
            runs.append(Run(shown, seconds, history, *examine(folder / f'epoch_{epochs}.pth')))
    test_set = digits('test_dataloader')
    return Comparison(
        *(runs[index :: len(PARTS)] for index in range(len(PARTS))),
        networks=tuple(part.network for part in PARTS),
        seeds=args.seeds,
        train_size=len(digits('train_dataloader')),
        images=np.stack([test_set.get_data_info(i)['img'] for i in range(len(test_set))]),
        labels=test_set.get_gt_labels(),
    )


def describe_machine() -> list[tuple[str, str]]:
    """Versions, date and hardware."""
    import mmengine
    import torch

    import hsakd

    cpu_info = Path('/proc/cpuinfo')
    models = cpu_info.read_text().split('model name') if cpu_info.is_file() else []
    cpu = models[1].splitlines()[0].lstrip('\t: ') if len(models) > 1 else platform.machine()
    hardware = f'{cpu}, {os.cpu_count()} cores (torch threads: {torch.get_num_threads()})'
    if torch.cuda.is_available():
        hardware = f'{torch.cuda.get_device_name()}; {hardware}'
    return [
        (
            'versions',
            f'hsakd {hsakd.__version__}, torch {torch.__version__}, mmengine '
            f'{mmengine.__version__}, Python {platform.python_version()}',
        ),
        ('hardware', hardware),
        ('date', datetime.now().astimezone().strftime('%Y-%m-%d %H:%M %Z')),
    ]


def main() -> None:
    """Train, compare and report."""
    args = parse_args()
    if args.epochs is not None and args.epochs < 1:
        raise UserError(f'--epochs={args.epochs}: accepted are 1 and more')
    if min(args.seeds) < 0 or len(set(args.seeds)) < len(args.seeds):
        raise UserError(f'--seeds={args.seeds}: accepted are different numbers from 0 up')
    if set(args.work_dir) & set(' ,()[]'):  # mmengine would take the teacher's path apart
        raise UserError(
            f'--work-dir={args.work_dir!r}: accepted are paths without blanks, commas, () and []'
        )

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from hsakd.utils.files import write_files
    from hsakd.visualization import draw_comparison, render_report, summary_rows
    from hsakd.visualization.report import SUMMARY_HEADER, verdict

    console = Console()
    comparison = train_all(args, console)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column, justify in zip(SUMMARY_HEADER, ('left', *4 * ('right',)), strict=True):
        table.add_column(column, justify=justify)
    for row in summary_rows(comparison):
        table.add_row(*row)
    console.print('', table, '', verdict(comparison), '', sep='\n', highlight=False)

    picture = draw_comparison(comparison)
    page = render_report(comparison, picture, describe_machine())
    work_dir = Path(args.work_dir).resolve()
    report = work_dir / 'report.html'
    write_files({work_dir / 'curves.png': picture, report: page.encode()}, force=True)
    print(report)


if __name__ == '__main__':
    run_tool(main)

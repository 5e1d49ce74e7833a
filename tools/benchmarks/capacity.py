#!/usr/bin/env python
"""Plan the training of configs on many GPUs: FLOPs, memory, communication and time of a step.

FLOPs are counted, memory is measured on the CPU in float32, and times on GPUs are computed from
both with assumptions that are options.
"""

import argparse
import json
import math
import sys
import time
import weakref
from collections.abc import Iterable
from pathlib import Path

import torch
from mmengine.config import Config
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hsakd.utils.cli import check_out_file, positive_number, run_tool  # noqa: E402
from hsakd.utils.errors import ConfigError, UserError  # noqa: E402

IMAGES = 1_281_167  # of ImageNet's training set
EPOCHS = 100
GPU_GIGABYTES = (24, 40, 80, 141)
RESERVE = 0.1  # of a GPU's memory, assumed, for what is not measured: context, workspaces, gaps


def positive_float(text: str) -> float:
    """An ``argparse`` type: a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number above 0')
    return number


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('configs', nargs='+', metavar='CONFIG', help='config files')
    add('--gpus', type=positive_number, nargs='+', default=[8, 64, 512], metavar='W')
    add('--batch-size', type=positive_number, metavar='N', help="images a GPU (the config's)")
    add('--shape', type=positive_number, default=224, help='height and width of an image (224)')
    add('--probe', type=positive_number, default=2, help='measured: N and 2N images (2)')
    add(
        '--repeats',
        type=positive_number,
        default=3,
        help='timed steps, of which the fastest counts (3)',
    )
    rates = dict(type=positive_float, nargs='+')
    peaks = "a second, the peaks of kinds of GPUs; assumed: a H100's or H200's, and an A100's, in "
    peaks += 'float16 or bfloat16 without sparsity (989e12 312e12)'
    add('--flops-per-second', **rates, default=[989e12, 312e12], metavar='FLOP', help=peaks)
    shares = 'shares of the peaks that are reached; assumed (0.1 0.2)'
    add('--utilisation', **rates, default=[0.1, 0.2], metavar='SHARE', help=shares)
    link = 'a second, from each GPU to the next in the ring; assumed (25e9)'
    add('--bandwidth', type=positive_float, default=25e9, metavar='BYTES', help=link)
    add('--out', type=Path, metavar='FILE.json', help='all figures, not rounded')
    add('--force', action='store_true', help='replace the file')
    return parser.parse_args()


def main() -> None:
    """Measure each config, compute, report."""
    args = parse_args()
    if len(args.utilisation) != len(args.flops_per_second) or max(args.utilisation) > 1:
        raise UserError(
            f'--utilisation: {args.utilisation}; accepted are shares up to 1, one for each of '
            f'--flops-per-second {args.flops_per_second}'
        )
    check_out_file(args.out, args.force)
    import hsakd  # noqa: F401  registers hsakd's types
    from hsakd.apis.running import is_detection, load_config
    from hsakd.utils.files import write_files

    configs = {path: load_config(path) for path in args.configs}
    for path, config in configs.items():
        if is_detection(config):
            raise ConfigError(
                f'config {path!r} is of a detector; accepted are classifiers and distillers'
            )
    plans = {}
    for path, config in configs.items():
        try:
            plans[Path(path).stem] = make_plan(config, args)
        except UserError:
            raise
        except Exception as error:  # of anybody's models, and whatever the config lacks
            reason = f'{type(error).__name__}: {" ".join(str(error).split())}'
            raise ConfigError(
                f'config {path!r} cannot be planned with --shape {args.shape} --probe '
                f'{args.probe}: {reason}; accepted are configs to train'
            ) from error
    settings = {key: value for key, value in vars(args).items() if key not in ('out', 'force')}
    settings |= dict(images=IMAGES, epochs=EPOCHS, reserve=RESERVE)
    settings |= dict(torch=torch.__version__, threads=torch.get_num_threads())
    report = dict(settings, configs=plans)
    print_report(report)
    if args.out:
        write_files({args.out: json.dumps(report, indent=2).encode() + b'\n'}, args.force)
        print(args.out)


class LiveMemory(TorchDispatchMode):
    """Bytes in tensors that operators made and that still exist: ``now``, and the ``peak``.

    What an operator allocates inside of itself is not seen.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen = {tensor.untyped_storage()._cdata: None for tensor in known}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._note(tensor.untyped_storage())
        self.peak = max(self.peak, self.now)
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._seen:
            self.now += size
            self._seen[key] = weakref.ref(storage, lambda _: self._free(key, size))

    def _free(self, key: int, size: int) -> None:
        del self._seen[key]
        self.now -= size


def make_plan(config: Config, args: argparse.Namespace) -> dict:
    """What is measured of a config, and what follows from it for GPUs."""
    measured = measure(config, args)
    flops = measured['flops']['forward'] + measured['flops']['backward']
    rates = zip(args.flops_per_second, args.utilisation, strict=True)
    measured['gpu_seconds'] = [flops / (peak * share) for peak, share in rates]
    fits = measured['largest_batch'] = {}
    for size in GPU_GIGABYTES:
        room = size * 1e9 * (1 - RESERVE) - sum(measured['bytes_fixed'].values())
        images = max(0, room / measured['bytes']['peak'])
        fits[size] = dict(float32=int(images), half=int(2 * images))
    batch = args.batch_size or config.train_dataloader.batch_size
    scaling = [scale(config, measured, batch, gpus, args.bandwidth) for gpus in args.gpus]
    return dict(measured, batch_size=batch, scaling=scaling)


def measure(config: Config, args: argparse.Namespace) -> dict:
    """Count and measure steps of training: FLOPs, bytes and seconds of an image.

    An image is one of the loader's: its transformed copies are part of it. Bytes an image are those
    of the larger batch: what does not grow is in them too, so they are no less than a larger one's.
    """
    from mmengine.optim import build_optim_wrapper
    from mmpretrain.structures import DataSample

    from hsakd.registry import MODELS

    torch.manual_seed(0)
    model = MODELS.build(config.model).train()
    optimizer = build_optim_wrapper(model, config.optim_wrapper).optimizer
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:  # there from the start, so that they are not part of an image
        parameter.grad = torch.zeros_like(parameter)
    gradients = [p.grad for p in trained]
    known = [*model.parameters(), *model.buffers(), *gradients]

    def images(num: int) -> Tensor:
        return torch.randn(num, 3, args.shape, args.shape)

    def forward(num: int) -> Tensor:
        samples = [DataSample().set_gt_label(0) for _ in range(num)]
        return model.parse_losses(model(images(num), samples, mode='loss'))[0]

    def step(num: int) -> dict[str, int]:
        with FlopCounterMode(display=False) as flops, LiveMemory(known) as memory:
            loss = forward(num)
            forward_flops, kept = flops.get_total_flops(), memory.now
            loss.backward()
        backward_flops = flops.get_total_flops() - forward_flops
        return dict(forward=forward_flops, backward=backward_flops, kept=kept, peak=memory.peak)

    @torch.no_grad()
    def teacher_step(num: int) -> dict[str, int]:
        with FlopCounterMode(display=False) as flops, LiveMemory(known) as memory:
            if hasattr(model, 'teacher'):
                model.teacher.logits(model.teacher.transforms(images(num)))
        return dict(teacher_forward=flops.get_total_flops(), teacher_peak=memory.peak)

    n = args.probe
    small, large = (step(num) | teacher_step(num) for num in (n, 2 * n))
    seconds = []
    for _ in range(1 + args.repeats):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=False)
        forward(2 * n).backward()
        optimizer.step()
        seconds.append((time.perf_counter() - start) / (2 * n))

    states = [state for values in optimizer.state.values() for state in values.values()]
    return dict(
        flops={key: large[key] / (2 * n) for key in ('forward', 'teacher_forward', 'backward')},
        bytes={key: large[key] / (2 * n) for key in ('kept', 'peak', 'teacher_peak')},
        bytes_smaller_batch={key: small[key] / n for key in ('kept', 'peak')},
        bytes_fixed=dict(
            parameters=num_bytes(model.parameters()),
            buffers=num_bytes(model.buffers()),
            gradients=num_bytes(gradients),
            optimizer=num_bytes(state for state in states if isinstance(state, Tensor)),
            ddp_buckets=num_bytes(gradients),  # copies, without gradient_as_bucket_view
        ),
        cpu_seconds=dict(fastest=min(seconds[1:]), all=seconds[1:]),
    )


def num_bytes(tensors: Iterable[Tensor]) -> int:
    """In all of these."""
    return sum(tensor.nbytes for tensor in tensors)


def scale(config: Config, measured: dict, batch: int, gpus: int, bandwidth: float) -> dict:
    """Compute training on so many GPUs, each with ``batch`` images, nothing overlapping."""
    rule = config.get('auto_scale_lr') or {}
    factor = batch * gpus / rule['base_batch_size'] if rule.get('enable') else 1
    steps = math.ceil(math.ceil(IMAGES / gpus) / batch)
    sent = 2 * (gpus - 1) / gpus * measured['bytes_fixed']['gradients']
    communication = sent / bandwidth
    seconds = [image * batch + communication for image in measured['gpu_seconds']]
    return dict(
        gpus=gpus,
        global_batch=batch * gpus,
        learning_rate=config.optim_wrapper.optimizer.lr * factor,
        steps_an_epoch=steps,
        sent_bytes_a_step=sent,
        communication_seconds=communication,
        step_seconds=seconds,
        hours=[s * steps * EPOCHS / 3600 for s in seconds],
    )


def print_report(report: dict) -> None:
    """Tables; MB and GB are 10^6 and 10^9 bytes."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 150)
    plans, n = report['configs'].items(), report['probe']
    rates = zip(report['flops_per_second'], report['utilisation'], strict=True)
    kinds = [f'{share:g} x {peak / 1e12:g}T' for peak, share in rates]

    def show(title: str, header: list[str], rows: Iterable[list]) -> None:
        table = Table(title=title, title_justify='left')
        for index, text in enumerate(['config', *header]):
            table.add_column(text, justify='right' if index else 'left', no_wrap=not index)
        for row in rows:
            table.add_row(*(f'{x:,.1f}' if isinstance(x, float) else str(x) for x in row))
        console.print(table)

    def mb(values: Iterable[float]) -> list[float]:
        return [value / 1e6 for value in values]

    def image(plan: dict) -> list:
        seconds = plan['cpu_seconds']['fastest'], *(1e3 * x for x in plan['gpu_seconds'])
        return [x / 1e9 for x in plan['flops'].values()] + [f'{x:.2f}' for x in seconds]

    def fitting(plan: dict) -> list[str]:
        return [f'{fit["float32"]:,}, {fit["half"]:,}' for fit in plan['largest_batch'].values()]

    def scaled(row: dict) -> list:
        return [
            *(row['gpus'], f'{row["global_batch"]:,}', f'{row["learning_rate"]:g}'),
            *(f'{row["steps_an_epoch"]:,}', *mb([row['sent_bytes_a_step']])),
            *(1e3 * x for x in (row['communication_seconds'], *row['step_seconds'])),
            *row['hours'],
        ]

    show(
        'An image. Counted: GFLOP, a multiply-add is 2. Measured: s on this CPU, float32, '
        f'{report["threads"]} thread(s). Computed: ms on GPUs of share x peak FLOP/s',
        ['forward', 'of it fixed teacher', 'backward', 'CPU s', *(f'ms {kind}' for kind in kinds)],
        ([name, *image(plan)] for name, plan in plans),
    )
    show(
        f'An image. Measured: MB in float32, of a batch of {2 * n}, by {2 * n} (kept and peak of a '
        f'batch of {n}, by {n})',
        ['kept for backward', 'peak', "fixed teacher's peak", f'kept, of {n}', f'peak, of {n}'],
        (
            [name, *mb([*plan['bytes'].values(), *plan['bytes_smaller_batch'].values()])]
            for name, plan in plans
        ),
    )
    show(
        'A GPU. Counted: MB in float32, whatever the batch',
        ['parameters', 'buffers', 'gradients', 'optimizer', 'DDP buckets'],
        ([name, *mb(plan['bytes_fixed'].values())] for name, plan in plans),
    )
    show(
        f'Computed: the most images on a GPU, {RESERVE:.0%} of which stays free; in float32, with '
        'half the memory an image (float16, bfloat16)',
        [f'{size} GB' for size in GPU_GIGABYTES],
        ([name, *fitting(plan)] for name, plan in plans),
    )
    show(
        f'Computed: {EPOCHS} epochs of {IMAGES:,} images. MB that a GPU sends a step, ms of it at '
        f'{report["bandwidth"] / 1e9:g} GB/s; ms of a step and hours on GPUs as above',
        ['GPUs', 'batch', 'lr', 'steps an epoch', 'MB sent', 'ms sent']
        + [f'{unit} {kind}' for unit in ('ms', 'h') for kind in kinds],
        ([name, *scaled(row)] for name, plan in plans for row in plan['scaling']),
    )
    console.print('Left out: validation, loading of data, overlap of sending and backward pass.')


if __name__ == '__main__':
    run_tool(main)

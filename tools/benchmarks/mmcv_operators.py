#!/usr/bin/env python
"""Compare torchvision's NMS and RoIAlign, as hsakd offers them to mmcv, with mmcv's compiled ones.

Both are used in this one process: first for equal results, then for time, in turns.
"""

import argparse
import itertools
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hsakd.utils import mmcv_ext  # noqa: E402
from hsakd.utils.cli import positive_number, run_tool  # noqa: E402
from hsakd.utils.errors import UserError  # noqa: E402

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

WARM_UP = 2  # rounds


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--compiled',
        required=True,
        metavar='DIR',
        type=Path,
        help='folder with mmcv/_ext*.so, as pip install --target DIR makes it',
    )
    parser.add_argument(
        '--iterations',
        type=positive_number,
        default=15,
        metavar='N',
        help='timed training iterations of each (15); single operators take 4 times as many',
    )
    parser.add_argument(
        '--size',
        type=positive_number,
        nargs=2,
        default=[320, 416],
        metavar=('H', 'W'),
        help='of the image, in pixels (320 416)',
    )
    parser.add_argument('--device', default='cpu', help='cpu (default) or cuda')
    parser.add_argument('--out', type=Path, metavar='FILE.json', help='all figures and every time')
    parser.add_argument('--force', action='store_true', help='replace the file')
    return parser.parse_args()


def main() -> None:
    """Load both, compare, time, report."""
    args = parse_args()
    import torch

    from hsakd.utils.device import find_device
    from hsakd.utils.files import write_files

    if args.out and args.out.exists() and not args.force:
        raise UserError(
            f'--out: {str(args.out)!r} exists; accepted is a new name, or --force to replace it'
        )
    if min(args.size) < 64:
        raise UserError(f'--size: {args.size}; accepted is 64 and more, by the detector')
    device = find_device(args.device)
    operators = dict(torchvision=mmcv_ext, compiled=load_compiled(args.compiled, device))
    detector = FasterRCNN(tuple(args.size), device)
    equality = dict(
        nms=list(compare_nms(operators, device)),
        roi_align=list(compare_roi_align(operators, device)),
        faster_rcnn=detector.compare(operators),
    )
    runs = dict(
        training_iteration=(detector.train, detector.prepare, args.iterations),
        **{
            name: (run, lambda round_: None, 4 * args.iterations)
            for name, run in single_operators(tuple(args.size), device).items()
        },
    )
    timing = {
        name: summarise(time_in_turns(operators, *run, device)) for name, run in runs.items()
    }
    report = dict(
        settings=dict(size=args.size, device=str(device), threads=torch.get_num_threads()),
        versions=versions(device),
        equality=equality,
        timing=timing,
    )
    print_report(report)
    if args.out:
        write_files({args.out: json.dumps(report, indent=2).encode() + b'\n'}, args.force)
        print(args.out)


def load_compiled(folder: Path, device: 'torch.device') -> ModuleType:
    """The extension in ``folder``, without making it the one that mmcv imports.

    Raises:
        UserError: There is none, or none that fits this torch and device.
    """
    import torch

    how = mmcv_ext.HOW_TO_BUILD.replace('--force-reinstall', f'--target {folder}')
    files = sorted(folder.glob('mmcv/_ext*.so'))
    if not files:
        raise UserError(
            f'--compiled: no mmcv/_ext*.so in {str(folder)!r}; accepted is a folder with the '
            f'operators of mmcv, which this makes: {how}'
        )
    try:
        spec = spec_from_file_location('_ext', files[0])
        compiled = module_from_spec(spec)
        spec.loader.exec_module(compiled)
        box = torch.tensor([[0.0, 0, 1, 1]], device=device)
        compiled.nms(box, box[:, 0], iou_threshold=0.5, offset=0)
    except (ImportError, RuntimeError) as error:
        first_line = str(error).splitlines()[0]
        raise UserError(
            f'--compiled: {str(files[0])!r} does not work on {device} with torch '
            f'{torch.__version__}: {first_line}; accepted is one that was built with this torch, '
            f'for {device.type}: {how}'
        ) from error
    return compiled


@contextmanager
def used_by_mmcv(operators: ModuleType) -> Iterator[None]:
    """Let mmcv.ops call these."""
    modules = [import_module(f'mmcv.ops.{name}') for name in ('nms', 'roi_align')]
    before = [module.ext_module for module in modules]
    for module in modules:
        module.ext_module = operators
    try:
        yield
    finally:
        for module, operators_before in zip(modules, before, strict=True):
            module.ext_module = operators_before


def random_boxes(num: int, size: tuple[float, float], generator: 'torch.Generator') -> 'Tensor':
    """[num, 4], x1, y1, x2, y2, each side up to half of ``size`` (height, width); some cross it."""
    import torch

    extent = torch.tensor([size[1], size[0]])
    centre = torch.rand(num, 2, generator=generator) * extent
    half = torch.rand(num, 2, generator=generator) * extent / 4
    return torch.cat([centre - half, centre + half], dim=1)


def nms_cases(generator: 'torch.Generator') -> dict[str, tuple['Tensor', 'Tensor']]:
    """Boxes and scores."""
    import torch

    def scores(num: int) -> 'Tensor':
        return torch.rand(num, generator=generator)

    def corners(num: int, high: int) -> 'Tensor':
        points = torch.randint(high, (num, 2, 2), generator=generator).float()
        return points.sort(dim=1).values.reshape(num, 4)

    boxes = random_boxes(1000, (320, 416), generator)
    flat = random_boxes(500, (320, 416), generator)
    flat[::2, 2] = flat[::2, 0]
    flat[::3, 3] = flat[::3, 1]
    return {
        '1,000 boxes': (boxes, scores(1000)),
        '1,000 boxes, 10 different scores': (boxes, (scores(1000) * 10).floor() / 10),
        '5,000 boxes': (random_boxes(5000, (320, 416), generator), scores(5000)),
        '300 boxes on a grid (many IoU equal to the threshold)': (corners(300, 12), scores(300)),
        '500 boxes, most without area': (flat, scores(500)),
        'no box': (boxes[:0], scores(0)),
    }


def compare_nms(
    operators: dict[str, ModuleType], device: 'torch.device', draws: int = 20
) -> Iterator[dict]:
    """For each case and offset: of how many runs the kept indices differ, at all or as a set."""
    import torch

    rows = {}
    for seed in range(draws):
        cases = nms_cases(torch.Generator().manual_seed(seed))
        for (case, boxes), offset in itertools.product(cases.items(), (0, 1)):
            row = rows.setdefault(
                (case, offset),
                dict(case=case, offset=offset, runs=0, kept=0, other_order=0, other_boxes=0),
            )
            for threshold in (0.1, 0.3, 0.5, 0.6, 0.7):
                one, other = (
                    module.nms(
                        *(x.to(device) for x in boxes), iou_threshold=threshold, offset=offset
                    ).tolist()
                    for module in operators.values()
                )
                row['runs'] += 1
                row['kept'] += len(one)
                row['other_order'] += one != other
                row['other_boxes'] += set(one) != set(other)
    yield from rows.values()


def compare_roi_align(
    operators: dict[str, ModuleType], device: 'torch.device', draws: int = 5
) -> Iterator[dict]:
    """For each setting: the largest differences of results and of gradients, and the values'."""
    import torch

    roi_align = import_module('mmcv.ops').roi_align
    for dtype, aligned, sampling_ratio, num in itertools.product(
        (torch.float32, torch.float64), (True, False), (0, 2), (64, 0)
    ):
        row = dict(
            dtype=str(dtype).removeprefix('torch.'),
            aligned=aligned,
            sampling_ratio=sampling_ratio,
            rois=num,
        )
        largest = torch.zeros(4, dtype=torch.float64)
        for seed in range(draws):
            generator = torch.Generator().manual_seed(seed)
            x = torch.randn(2, 8, 25, 38, generator=generator, dtype=dtype).to(device)
            x.requires_grad_()
            boxes = random_boxes(64, (100, 152), generator)
            boxes[0] = torch.tensor([0, 0, 152, 100])
            boxes[1] = torch.tensor([500, 500, 600, 600])  # outside
            boxes[2] = torch.tensor([-80, -90, 300, 400])
            boxes[3:8, 2:] = boxes[3:8, :2]  # no area
            image = torch.randint(2, (64, 1), generator=generator)
            rois = torch.cat([image, boxes], dim=1)[:num].to(device, dtype)
            weights = torch.randn(num, 8, 7, 5, generator=generator, dtype=dtype).to(device)
            results = []
            for module in operators.values():
                with used_by_mmcv(module):
                    out = roi_align(x, rois, (7, 5), 0.25, sampling_ratio, 'avg', aligned)
                    results.append((out, *torch.autograd.grad((out * weights).sum(), x)))
            (out, gradient), (other_out, other_gradient) = results
            values = (out - other_out, gradient - other_gradient, other_out, other_gradient)
            found = [v.abs().max() if v.numel() else torch.tensor(0) for v in values]
            largest = torch.maximum(largest, torch.stack([f.detach().cpu() for f in found]))
        keys = ('result_difference', 'gradient_difference', 'largest_result', 'largest_gradient')
        yield row | dict(zip(keys, largest.tolist(), strict=True))


class FasterRCNN:
    """mmdet's Faster R-CNN, R18-FPN, that is trained on a generated image of ``size`` (H, W)."""

    def __init__(self, size: tuple[int, int], device: 'torch.device') -> None:
        import mmdet.models  # noqa: F401  registers them
        import torch
        from mmdet.registry import MODELS
        from mmengine.hub import get_config
        from mmengine.logging import MMLogger
        from mmengine.registry import DefaultScope

        cfg = get_config('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py').model
        # Without pretrained weights, batch statistics keep the features in a usual range.
        cfg.backbone.update(depth=18, init_cfg=None, norm_eval=False)
        cfg.neck.in_channels = [64, 128, 256, 512]
        MMLogger.get_instance('mmcv_operators', log_level='WARNING')  # not how each weight began
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope('mmdet'):
            self.model: nn.Module = MODELS.build(cfg)
            self.model.init_weights()
        self.model.to(device).train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.02, momentum=0.9)
        self.size, self.device = size, device
        self.initial = {key: value.clone() for key, value in self.model.state_dict().items()}

    def prepare(self, round_: int) -> None:
        """The weights of the start, and an image, boxes and random numbers of ``round_``."""
        import torch
        from mmdet.structures import DetDataSample
        from mmengine.structures import InstanceData

        self.model.load_state_dict(self.initial)
        generator = torch.Generator().manual_seed(1000 + round_)
        self.inputs = torch.randn(1, 3, *self.size, generator=generator).to(self.device)
        boxes = random_boxes(8, self.size, generator)
        boxes[:, 0::2].clamp_(0, self.size[1])
        boxes[:, 1::2].clamp_(0, self.size[0])
        meta = dict(img_shape=self.size, ori_shape=self.size, pad_shape=self.size)
        sample = DetDataSample(metainfo=dict(**meta, scale_factor=(1.0, 1.0)))
        sample.gt_instances = InstanceData(
            bboxes=boxes, labels=torch.randint(80, (8,), generator=generator)
        )
        self.samples = [sample.to(self.device)]
        torch.manual_seed(1000 + round_)

    def train(self) -> 'Tensor':
        """One iteration."""
        self.optimizer.zero_grad()
        loss, _ = self.model.parse_losses(self.model(self.inputs, self.samples, mode='loss'))
        loss.backward()
        self.optimizer.step()
        return loss

    def compare(self, operators: dict[str, ModuleType], draws: int = 3) -> dict[str, float]:
        """The largest loss, and the largest differences of losses and of gradients."""
        import torch

        largest = dict(loss=0.0, loss_difference=0.0, gradient_difference=0.0)
        for seed in range(draws):
            found = []
            for module in operators.values():
                self.prepare(-1 - seed)
                with used_by_mmcv(module):
                    loss = self.train()
                gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
                found.append((loss.detach(), torch.cat([g.flatten() for g in gradients])))
            (loss, gradient), (other_loss, other_gradient) = found
            for key, value in (
                ('loss', loss),
                ('loss_difference', loss - other_loss),
                ('gradient_difference', gradient - other_gradient),
            ):
                largest[key] = max(largest[key], value.abs().max().item())
        return largest


def single_operators(size: tuple[int, int], device: 'torch.device') -> dict[str, Callable]:
    """What a training iteration calls, on as many boxes: mmcv's functions, ready to be called."""
    import torch

    ops = import_module('mmcv.ops')
    generator = torch.Generator().manual_seed(0)
    boxes = random_boxes(2000, size, generator).to(device)
    scores = torch.rand(2000, generator=generator).to(device)
    x = torch.randn(1, 256, size[0] // 4, size[1] // 4, generator=generator).to(device)
    x.requires_grad_()
    rois = torch.cat([boxes.new_zeros(512, 1), boxes[:512] / 4], dim=1)  # as of the finest level
    forward = partial(ops.roi_align, x, rois, 7, 0.25, 0, 'avg', True)
    out = forward()
    gradient = torch.randn(out.shape, generator=generator).to(device)
    backward = partial(torch.autograd.grad, out, x, gradient, retain_graph=True)
    return dict(
        nms=partial(ops.nms, boxes, scores, 0.7),
        roi_align_forward=forward,
        roi_align_backward=backward,
    )


def time_in_turns(
    operators: dict[str, ModuleType],
    run: Callable[[], object],
    prepare: Callable[[int], None],
    rounds: int,
    device: 'torch.device',
) -> dict[str, list[float]]:
    """Seconds of ``run``, by operators; the order alternates, and ``prepare`` is not timed."""
    import torch

    def now() -> float:
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        return time.perf_counter()

    seconds = {name: [] for name in operators}
    for round_ in range(-WARM_UP, rounds):
        for name in list(operators)[:: 1 if round_ % 2 else -1]:
            prepare(round_)
            with used_by_mmcv(operators[name]):
                start = now()
                run()
                elapsed = now() - start
            if round_ >= 0:
                seconds[name].append(elapsed)
    return seconds


def summarise(seconds: dict[str, list[float]]) -> dict:
    """Quartiles of each in ms, and ratios of torchvision's time to that of the compiled ones."""
    import numpy as np

    quartiles = {
        name: [1e3 * q for q in np.percentile(s, (25, 50, 75))] for name, s in seconds.items()
    }
    pairs = np.divide(seconds['torchvision'], seconds['compiled'])
    return dict(
        quartiles_ms=quartiles,
        ratio_of_medians=quartiles['torchvision'][1] / quartiles['compiled'][1],
        ratios_of_pairs=np.percentile(pairs, (25, 50, 75)).tolist(),
        seconds=seconds,
    )


def versions(device: 'torch.device') -> dict[str, str]:
    """Of what takes part, and the processor."""
    from importlib.metadata import version

    import torch

    if device.type == 'cuda':
        processor = torch.cuda.get_device_name(device)
    else:
        processor = platform.processor() or platform.machine()
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                processor = line.split(':')[1].strip()
    packages = ('torch', 'torchvision', 'onedl-mmcv', 'onedl-mmdetection')
    return dict(processor=processor, **{name: version(name) for name in packages})


def print_report(report: dict) -> None:
    """Tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 120)

    def show(title: str, left: int, header: list[str], rows: list[list]) -> None:
        table = Table(*header, title=title, title_justify='left')
        for column in table.columns[left:]:
            column.justify = 'right'
        for row in rows:
            table.add_row(*map(str, row))
        console.print(table)

    equality, timing = report['equality'], report['timing']
    show(
        'NMS: runs in which torchvision and the compiled one differ',
        1,
        ['boxes', 'offset', 'runs', 'boxes kept', 'other order', 'other boxes'],
        [list(row.values()) for row in equality['nms']],
    )
    show(
        'RoIAlign: largest differences (of values up to)',
        1,
        ['type', 'aligned', 'sampling ratio', 'RoIs', 'result', 'gradient of the features'],
        [
            [
                *list(row.values())[:4],
                f'{row["result_difference"]:.1e} ({row["largest_result"]:.1f})',
                f'{row["gradient_difference"]:.1e} ({row["largest_gradient"]:.1f})',
            ]
            for row in equality['roi_align']
        ],
    )
    found = equality['faster_rcnn']
    console.print(
        f'Faster R-CNN: loss up to {found["loss"]:.4f}, largest differences: loss '
        f'{found["loss_difference"]:.1e}, gradient {found["gradient_difference"]:.1e}'
    )
    show(
        'Time in ms: median (quartiles); NMS of 2,000 boxes, RoIAlign of 512 RoIs',
        1,
        ['', 'torchvision', 'compiled', 'ratio of medians', 'ratio of pairs'],
        [
            [
                name.replace('_', ' '),
                *('{1:.1f} ({0:.1f}-{2:.1f})'.format(*q) for q in row['quartiles_ms'].values()),
                f'{row["ratio_of_medians"]:.3f}',
                '{1:.3f} ({0:.3f}-{2:.3f})'.format(*row['ratios_of_pairs']),
            ]
            for name, row in timing.items()
        ],
    )


if __name__ == '__main__':
    run_tool(main)

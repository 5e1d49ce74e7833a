"""What stands in for mmcv's compiled operators where they are absent.

mmcv has no wheel for a current torch, and pip builds it without ``mmcv._ext``, which mmdet imports.
Detectors such as Faster R-CNN and RetinaNet need little of it: NMS and RoIAlign, which torchvision
has too, on CPU and CUDA, with equal results. :func:`install` offers these under mmcv's names; any
other operator is there to be imported and raises an error when it is called.
"""

import sys
from collections.abc import Callable
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

NAME = 'mmcv._ext'


def install() -> None:
    """Put the operators of this module in the place of ``mmcv._ext`` where it is not compiled."""
    mmcv = find_spec('mmcv')  # which does not import it
    if NAME in sys.modules or mmcv is None:
        return
    if PathFinder.find_spec(NAME, mmcv.submodule_search_locations) is None:
        operators = _Operators(NAME, __doc__)
        operators.__spec__ = ModuleSpec(NAME, Loader())  # mmcv looks for one
        operators.nms = nms
        operators.roi_align_forward = roi_align_forward
        operators.roi_align_backward = roi_align_backward
        sys.modules[NAME] = operators


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices of the boxes that non-maximum suppression keeps, of falling score.

    Args:
        boxes: [N, 4], x1, y1, x2, y2.
        scores: [N].
        iou_threshold: A box that overlaps a better one by more is dropped.
        offset: 0, or 1 where x2 and y2 are the last pixels inside, so that width is x2 - x1 + 1.
    """
    from torchvision.ops import nms as torchvision_nms

    # mmcv takes equal scores as this sort leaves them; torchvision's own, of what is sorted here
    # already, is stable.
    scores, order = scores.sort(descending=True)
    boxes = boxes[order]
    if offset:  # Moved x2 and y2 make widths, heights and intersections those of mmcv.
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    # As mmcv, compare with the threshold in the boxes' precision: float32 of 0.3 is above 0.3, so
    # that torchvision's would drop boxes that overlap by just as much.
    iou_threshold = torch.tensor(iou_threshold, dtype=boxes.dtype).item()
    return order[torchvision_nms(boxes, scores.to(boxes.dtype), iou_threshold)]


def roi_align_forward(
    features: Tensor, rois: Tensor, output: Tensor, *argmax: Tensor, **settings: object
) -> None:
    """Fill ``output`` [R, C, H', W'] with features pooled in ``rois`` [R, 5] (image, x1, ..., y2).

    Features are [N, C, H, W], and ``settings`` as mmcv names them, see :func:`_settings`.
    """
    import torchvision  # noqa: F401  registers the operators

    size, sampling = _settings(**settings)
    rois = rois.to(features.dtype)
    output.copy_(torch.ops.torchvision.roi_align(features, rois, *size, *sampling))


def roi_align_backward(
    grad_output: Tensor, rois: Tensor, *others: Tensor, **settings: object
) -> None:
    """Fill the last of ``others`` [N, C, H, W], the gradient of the features; see above."""
    import torchvision  # noqa: F401  registers the operators

    grad_features = others[-1]
    size, sampling = _settings(**settings)
    rois = rois.to(grad_output.dtype)
    grad_features.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad_output, rois, *size, *grad_features.shape, *sampling
        )
    )


def _settings(
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> tuple[tuple, tuple]:
    """Scale and size, and sampling, in the order of torchvision's arguments."""
    if pool_mode != 1:
        raise NotImplementedError(
            "RoIAlign: expected pool_mode='avg', or mmcv with its compiled operators "
            f"({HOW_TO_BUILD}), got 'max'"
        )
    # As many samples as a bin has pixels are 0 in mmcv and -1 here.
    return (spatial_scale, aligned_height, aligned_width), (sampling_ratio or -1, aligned)


HOW_TO_BUILD = (
    'MAX_JOBS=2 pip install --no-build-isolation --no-deps --force-reinstall onedl-mmcv==2.3.6 '
    '(needs a C++ compiler, ninja, wheel and packaging, and tens of minutes)'
)


class _Operators(ModuleType):
    def __getattr__(self, name: str) -> Callable:
        if name.startswith('__'):
            raise AttributeError(name)

        def missing(*args: object, **kwargs: object) -> None:
            raise NotImplementedError(
                f'mmcv.ops needs its compiled operator {name}, which has no stand-in; build mmcv '
                f'with its operators: {HOW_TO_BUILD}'
            )

        return missing

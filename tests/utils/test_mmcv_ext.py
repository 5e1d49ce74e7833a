"""torchvision's operators behind mmcv's, where mmcv has no compiled ones."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsakd.utils import mmcv_ext
from tests.conftest import ROOT


@pytest.fixture(scope='module')
def ops():
    import mmcv.ops

    return mmcv.ops


def greedy_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float, offset: int) -> list[int]:
    """The definition, box by box; equal scores in the order of torch's sort, as in mmcv."""
    order = torch.tensor(scores).sort(descending=True).indices.tolist()
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2] + offset, 0), axis=1)
    kept = []
    for i in order:
        for j in kept:
            low = np.maximum(boxes[i, :2], boxes[j, :2])
            high = np.minimum(boxes[i, 2:], boxes[j, 2:])
            overlap = np.prod(np.maximum(high - low + offset, 0))
            union = area[i] + area[j] - overlap
            if union > 0 and overlap / union > threshold:
                break
        else:
            kept.append(i)
    return kept


@st.composite
def detections(draw):
    """Boxes on a coarse grid, so that many are equal, touch or have no area; scores with ties."""
    size = draw(st.integers(0, 12))
    corners = draw(st.lists(st.tuples(*[st.integers(0, 6)] * 4), min_size=size, max_size=size))
    boxes = np.array(corners, np.float64).reshape(-1, 2, 2)
    boxes.sort(axis=1)
    scores = draw(st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=size, max_size=size))
    return boxes.reshape(-1, 4), np.array(scores, np.float64)


@settings(max_examples=300, deadline=None)  # the first one imports torchvision
@given(detections(), st.sampled_from([0.15, 0.45, 0.85]), st.sampled_from([0, 1]))
def test_nms_is_the_greedy_one(found, threshold, offset):
    boxes, scores = found
    kept = mmcv_ext.nms(torch.tensor(boxes), torch.tensor(scores), threshold, offset)
    assert kept.tolist() == greedy_nms(boxes, scores, threshold, offset)


@pytest.mark.parametrize(('inside', 'of', 'threshold'), [(3, 10, 0.3), (6, 10, 0.6), (1, 2, 0.5)])
def test_boxes_that_overlap_by_just_the_threshold_stay(inside, of, threshold):
    # float32(0.3) > 0.3, so that torchvision by itself drops the second box
    boxes = torch.tensor([[0.0, 0, of, 1], [0, 0, inside, 1]])
    scores = torch.tensor([0.9, 0.8])
    assert mmcv_ext.nms(boxes, scores, threshold, 0).tolist() == [0, 1]
    assert mmcv_ext.nms(boxes, scores, threshold - 1e-6, 0).tolist() == [0]


def test_nms_of_no_box(ops):
    dets, kept = ops.nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert dets.shape == (0, 5) and kept.shape == (0,) and kept.dtype == torch.long
    cfg = dict(type='nms', iou_threshold=0.5, class_agnostic=True)
    dets, kept = ops.batched_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), cfg)
    assert dets.shape == (0, 5) and kept.shape == (0,)


def test_mmcvs_nms_runs_on_it(ops):
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
    dets, kept = ops.nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5)
    assert kept.tolist() == [1, 2] and dets.shape == (2, 5)
    classes, cfg = torch.tensor([0, 1, 0]), dict(type='nms', iou_threshold=0.5)
    dets, kept = ops.batched_nms(boxes, torch.tensor([0.5, 0.9, 0.1]), classes, cfg)
    assert sorted(kept.tolist()) == [0, 1, 2]  # classes do not suppress each other


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_roi_align_is_torchvisions(ops, aligned, sampling_ratio):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 9, 11, generator=generator, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor(
        [[0, 1.0, 2, 30, 20], [1, 5, 5, 5, 5], [1, -9, 0, 99, 99], [0, 3.3, 4.4, 4, 5]],
        dtype=torch.float64,
    )
    layer = ops.RoIAlign((3, 2), 0.25, sampling_ratio, aligned=aligned)
    theirs = ops.RoIAlign((3, 2), 0.25, sampling_ratio, aligned=aligned, use_torchvision=True)
    weights = torch.randn(4, 3, 3, 2, generator=generator, dtype=torch.float64)
    results = [
        (out, *torch.autograd.grad((out * weights).sum(), x))
        for out in (layer(x, rois), theirs(x, rois))
    ]
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(lambda x: layer(x, rois), x)
    assert layer(x, rois[:0]).shape == (0, 3, 3, 2)


def test_other_operators_are_named_when_they_are_called(ops):
    with pytest.raises(NotImplementedError, match='softnms.*pip install.*onedl-mmcv'):
        ops.soft_nms(torch.rand(2, 4), torch.rand(2))
    layer = ops.RoIAlign(2, 1.0, pool_mode='max')
    with pytest.raises(NotImplementedError, match="pool_mode.*got 'max'"):
        layer(torch.rand(1, 1, 4, 4), torch.tensor([[0, 0.0, 0, 3, 3]]))


def test_compiled_operators_win(tmp_path):
    (tmp_path / '_ext.py').write_text('compiled = True\n')
    code = (
        'import mmcv, hsakd\n'
        f'mmcv.__path__.append({str(tmp_path)!r})\n'
        'hsakd.setup()\n'
        'import mmcv._ext\n'
        'assert mmcv._ext.compiled is True and not hasattr(mmcv._ext, "nms")\n'
    )
    subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT)

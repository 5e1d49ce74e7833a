"""Detectors as ONNX models: from an image to boxes, with torchvision's NMS and RoIAlign."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torchvision.ops import batched_nms, roi_align

from hsakd import __version__
from hsakd.datasets.image_folder import read_image
from hsakd.utils.errors import ConfigError, UserError
from hsakd.utils.normalization import detector_normalization

if TYPE_CHECKING:
    from mmdet.models import BaseDetector
    from mmdet.models.dense_heads import AnchorHead
    from mmdet.models.task_modules import DeltaXYWHBBoxCoder

#: Largest differences between ONNX Runtime and mmdet: of a corner in pixels, and of a score.
BOX_TOLERANCE, SCORE_TOLERANCE = 0.1, 1e-3
#: Relative noise of pixels that does what rounding does, and how often it is drawn.
_ROUNDING, _DRAWS = 1e-5, 10
#: RoIAlign of regions that are shifted by half a pixel needs it.
_OPSET = 16
_ACCEPTED = (
    "a Faster R-CNN or RetinaNet of mmdet's heads RPNHead, StandardRoIHead and RetinaHead, with "
    'plain NMS'
)


class _Deployed(nn.Module):
    """An image to boxes, by the modules of a detector and in operations that ONNX has.

    mmdet's own way from maps to boxes counts in Python what it finds, which a trace would keep.
    """

    def __init__(self, detector: BaseDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes [D, 4], scores [D] and labels [D] of an image [1, 3, H, W], RGB, 0..255."""
        shape = tuple(int(side) for side in images.shape[2:])
        maps = self.detector.extract_feat(normalized(self.detector, images))
        if not hasattr(self.detector, 'rpn_head'):
            boxes, scores, labels, _ = self._dense(self.detector.bbox_head, maps, shape)
            settings = self.detector.bbox_head.test_cfg
            return self._best(boxes, scores, labels, labels, settings)
        head = self.detector.rpn_head
        boxes, scores, labels, levels = self._dense(head, maps, shape)
        regions, *_ = self._best(boxes, scores, labels, levels, head.test_cfg)
        return self._classified(maps, regions, shape)

    def _dense(
        self, head: AnchorHead, maps: tuple[Tensor, ...], shape: tuple[int, int]
    ) -> tuple[Tensor, ...]:
        """The best boxes of each level, with score, label and number of the level."""
        settings, kinds = head.test_cfg, head.cls_out_channels
        all_scores, all_boxes = head(maps)
        sizes = [tuple(int(side) for side in scores.shape[2:]) for scores in all_scores]
        anchors = head.prior_generator.grid_priors(sizes, device='cpu')
        parts = []
        for level, values in enumerate(zip(all_scores, all_boxes, anchors, strict=True)):
            scores, deltas, priors = values
            scores = scores[0].permute(1, 2, 0).reshape(-1).sigmoid()
            deltas = deltas[0].permute(1, 2, 0).reshape(-1, 4)
            scores, order = scores.topk(min(settings.nms_pre, len(scores)))
            place = torch.div(order, kinds, rounding_mode='floor')
            boxes = _decoded(head.bbox_coder, priors[place], deltas[place], shape)
            number = torch.full_like(order, level)
            parts.append((boxes, scores, order - place * kinds, number))
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))

    def _best(
        self, boxes: Tensor, scores: Tensor, labels: Tensor, groups: Tensor, settings: dict
    ) -> tuple[Tensor, ...]:
        """What is left of boxes by size, score, and NMS in each group."""
        smallest = settings.get('min_bbox_size', -1)
        width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        kept = (width > smallest) & (height > smallest) & (scores > settings.get('score_thr', 0))
        kept = kept.nonzero()[:, 0]
        boxes, scores, labels, groups = (x[kept] for x in (boxes, scores, labels, groups))
        found = batched_nms(boxes, scores, groups, settings.nms.iou_threshold)
        found = found[: settings.max_per_img]
        return boxes[found], scores[found], labels[found]

    def _classified(
        self, maps: tuple[Tensor, ...], regions: Tensor, shape: tuple[int, int]
    ) -> tuple[Tensor, ...]:
        """What the second stage says of regions [R, 4]."""
        head = self.detector.roi_head
        extractor, boxed = head.bbox_roi_extractor, head.bbox_head
        regions = torch.cat([torch.zeros_like(regions[:, :1]), regions], 1)
        levels = extractor.map_roi_levels(regions, extractor.num_inputs)
        size = extractor.roi_layers[0].output_size
        parts, order = [], []
        for level, layer in enumerate(extractor.roi_layers):
            chosen = (levels == level).nonzero()[:, 0]
            sampling = layer.sampling_ratio or -1  # as many as a bin has pixels
            settings = size, layer.spatial_scale, sampling, layer.aligned
            parts.append(roi_align(maps[level], regions[chosen], *settings))
            order.append(chosen)
        pooled = torch.cat(parts)[torch.cat(order).argsort()]
        if head.with_shared_head:
            pooled = head.shared_head(pooled)
        scores, deltas = boxed(pooled)
        scores = scores.softmax(-1)[:, :-1]
        boxes = _decoded(boxed.bbox_coder, regions[:, 1:], deltas, shape).reshape(-1, 4)
        kinds = boxed.num_classes
        labels = torch.arange(kinds).repeat(regions.shape[0])
        if boxed.reg_class_agnostic:
            boxes = boxes.repeat_interleave(kinds, 0)
        return self._best(boxes, scores.reshape(-1), labels, labels, head.test_cfg)


def _decoded(
    coder: DeltaXYWHBBoxCoder, boxes: Tensor, deltas: Tensor, shape: tuple[int, int]
) -> Tensor:
    """As the coder's ``decode`` does it, which in an export calls what mmdet no longer has."""
    from mmdet.models.task_modules.coders.delta_xywh_bbox_coder import delta2bbox

    return delta2bbox(
        boxes,
        deltas,
        coder.means,
        coder.stds,
        shape,
        clip_border=coder.clip_border,
        add_ctr_clamp=coder.add_ctr_clamp,
        ctr_clamp=coder.ctr_clamp,
    )


def normalized(detector: BaseDetector, images: Tensor) -> Tensor:
    """Images [N, 3, H, W], RGB, 0..255, as the detector's backbone gets them."""
    known = detector_normalization(detector.cfg.model.data_preprocessor)
    if not known.rgb:
        images = images.flip(1)
    if not known.mean:
        return images
    mean, std = (images.new_tensor(values).reshape(-1, 1, 1) for values in (known.mean, known.std))
    return (images - mean) / std


def _neutral(detector: BaseDetector) -> list[float]:
    """The color R, G, B that normalization makes 0, with which mmdet pads."""
    known = detector_normalization(detector.cfg.model.data_preprocessor)
    mean = list(known.mean) or [0.0, 0.0, 0.0]
    return mean if known.rgb else mean[::-1]


def _check(detector: BaseDetector) -> None:
    """Check that :class:`_Deployed` does what the detector does."""
    from mmdet.models import RetinaHead, RPNHead, SingleRoIExtractor, StandardRoIHead
    from mmdet.models.task_modules import DeltaXYWHBBoxCoder

    two_stages = hasattr(detector, 'roi_head')
    head = getattr(detector, 'rpn_head' if two_stages else 'bbox_head', None)
    parts = [head]
    ok = type(head) is (RPNHead if two_stages else RetinaHead) and head.use_sigmoid_cls
    if ok and two_stages:
        parts += [detector.roi_head, detector.roi_head.bbox_roi_extractor]
        ok = type(parts[1]) is StandardRoIHead and not parts[1].with_mask
        ok = ok and type(parts[2]) is SingleRoIExtractor
    if ok:
        coders = [head, detector.roi_head.bbox_head] if two_stages else [head]
        ok = all(type(part.bbox_coder) is DeltaXYWHBBoxCoder for part in coders)
        ok = ok and all(part.test_cfg.nms.get('type', 'nms') == 'nms' for part in parts[:2])
    found = ', '.join(type(part).__name__ for part in [detector, *parts])
    ConfigError.check(ok, 'model', f'{_ACCEPTED} for an ONNX model', found)


def export_detector(detector: BaseDetector, image: str | Path) -> tuple[bytes, int, float, float]:
    """A detector as an ONNX model, compared with mmdet on an image.

    Input ``images``: float32 [1, 3, H, W], RGB, 0..255; H and W are those that the test pipeline
    makes ``image``, up to a multiple of 32. Normalization and NMS are inside. Outputs: ``boxes``
    float32 [D, 4], x1, y1, x2, y2 in pixels of the input, ``scores`` float32 [D], falling, and
    ``labels`` int64 [D]. The metadata say so, and hold the names of the classes and, as
    ``resize``, how an image is made so large.

    Args:
        detector: As :func:`~hsakd.apis.load_detector` gives it.
        image: A file of an image in which the detector finds something.

    Returns:
        The content of the .onnx file, how many boxes were compared, and the largest differences of
        a corner in pixels and of a score.

    Raises:
        ConfigError: It is of other parts than those that ONNX models are made of.
        UserError: mmdet finds nothing in the image, or ONNX Runtime something else.
    """
    import onnx
    import onnxruntime

    _check(detector)
    detector = detector.cpu().eval()
    images, shown = _input(detector, image)
    buffer = io.BytesIO()
    axes = {name: {0: 'D'} for name in ('boxes', 'scores', 'labels')}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of tracing and of shapes, which are compared below
        torch.onnx.export(
            _Deployed(detector).eval(),
            (images.flip(3),),  # another number of boxes than in what is compared
            buffer,
            input_names=['images'],
            output_names=[*axes],
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    height, width = images.shape[2:]
    onnx.helper.set_model_props(
        model,
        {
            'input': f'images: float32 [1, 3, {height}, {width}], RGB, 0..255, not normalized '
            '(normalization is inside the model)',
            'resize': json.dumps(
                dict(
                    width=width, height=height, keep_ratio=True, largest=shown,
                    interpolation='bilinear', pad='right and bottom',
                    pad_value=_neutral(detector),
                )
            ),
            'output': 'boxes: float32 [D, 4], x1, y1, x2, y2 in pixels of the input; scores: '
            'float32 [D], falling; labels: int64 [D]; after NMS',
            'opset': str(_OPSET),
            'classes': json.dumps(list(detector.dataset_meta.get('classes', []))),
            'hsakd_version': __version__,
        },
    )  # fmt: skip
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    found = [torch.from_numpy(x) for x in session.run(None, {'images': images.numpy()})]
    return content, *_compare(found, detector, images, image)


def _input(detector: BaseDetector, image: str | Path) -> tuple[Tensor, int]:
    """An image [1, 3, H, W] as the test pipeline makes it, and its longest side before padding."""
    steps = [step for step in detector.cfg.test_dataloader.dataset.pipeline][1:]
    with DefaultScope.overwrite_default_scope('mmdet'):
        pixels = read_image(image)
        shape = pixels.shape[:2]
        data = Compose(steps)(dict(img=pixels, img_shape=shape, ori_shape=shape, img_id=0))
    made = data['inputs'].flip(0).float()  # OpenCV's BGR
    height, width = made.shape[1:]
    padded = torch.tensor(_neutral(detector)).reshape(3, 1, 1)
    padded = padded.repeat(1, -(-height // 32) * 32, -(-width // 32) * 32)
    padded[:, :height, :width] = made
    return padded[None], max(height, width)


def _by_mmdet(detector: BaseDetector, images: Tensor) -> list[Tensor]:
    """Boxes, scores and labels of an image, as mmdet itself gives them."""
    from mmdet.structures import DetDataSample

    shape = tuple(images.shape[2:])
    meta = dict(img_shape=shape, ori_shape=shape, batch_input_shape=shape, scale_factor=(1.0, 1.0))
    with torch.no_grad():
        (sample,) = detector.predict(
            normalized(detector, images), [DetDataSample(metainfo=meta)], rescale=False
        )
    found = sample.pred_instances
    return [found.bboxes, found.scores, found.labels]


def _compare(
    found: list[Tensor], detector: BaseDetector, images: Tensor, image: str | Path
) -> tuple[int, float, float]:
    """Match what ONNX Runtime found with what mmdet does, and the other way around.

    Where scores are equal but for rounding, their order is not compared, nor are the last ones. Of
    two regions that overlap by just NMS's threshold rounding decides which ones stay, so that a box
    may be in one of both alone if it comes and goes in mmdet, too, when pixels are off by rounding.
    """
    wanted = _by_mmdet(detector, images)
    count = len(wanted[0])
    where = f'--image {str(image)!r}'
    UserError.check(count, where, 'an image in which the detector finds something', 'nothing')
    last = min(float(x[1].min()) if len(x[1]) else 1.0 for x in (found, wanted))
    extra, *largest = _match(found, wanted, last)
    lost, *others = _match(wanted, found, last)
    if extra.any() or lost.any():
        generator = torch.Generator().manual_seed(0)
        for _ in range(_DRAWS):
            noise = 1 + _ROUNDING * torch.randn(images.shape, generator=generator)
            rounded = _by_mmdet(detector, images * noise)
            extra &= _match(found, rounded, last)[0]
            lost &= ~_match(wanted, rounded, last)[0]
    for (boxes, scores, labels), alone in ((found, extra), (wanted, lost)):
        for i in alone.nonzero()[:1, 0]:
            raise UserError.expected(
                'ONNX model, not written',
                f'the boxes of mmdet within {BOX_TOLERANCE} pixels and {SCORE_TOLERANCE} of score',
                f'one of {[round(v, 2) for v in boxes[i].tolist()]}, class {labels[i]} and score '
                f'{scores[i]:.4f} in one of them alone',
            )
    return count, *map(max, largest, others)


def _match(boxes: list[Tensor], others: list[Tensor], last: float) -> tuple[Tensor, float, float]:
    """Which boxes [D] are not among others; of the rest, how far the corners and scores are off.

    Those that score as little as the last one, or less, count as among them.
    """
    corners = (boxes[0][:, None] - others[0]).abs().amax(2)
    scores = (boxes[1][:, None] - others[1]).abs()
    same = (corners <= BOX_TOLERANCE) & (scores <= SCORE_TOLERANCE)
    same &= boxes[2][:, None] == others[2]
    alone = ~same.any(1) & (boxes[1] > last + SCORE_TOLERANCE)
    return alone, *(float(x[same].max()) if same.any() else 0.0 for x in (corners, scores))

"""What a classifier costs where it is used."""

import statistics
import time
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch
from mmpretrain.models import ImageClassifier
from torch.utils.flop_counter import FlopCounterMode

from hsakd.utils.networks import image_channels

from .classifier import input_size
from .publishing import export_onnx

#: Images that are timed one by one, and those before them that are not.
_TIMED, _WARM_UP = 30, 5


@dataclass(frozen=True)
class Cost:
    """Of one image at inference, without branches.

    Attributes:
        parameters: How many.
        multiply_adds: Of convolutions and matrix products, at the size of the test pipeline.
        megabytes: Of the ONNX file, 10^6 bytes.
        milliseconds: ONNX Runtime on this CPU, one thread, one image: the median.
    """

    parameters: int
    multiply_adds: int
    megabytes: float
    milliseconds: float


def inference_cost(classifier: ImageClassifier) -> Cost:
    """Count and measure.

    Raises:
        UserError: It cannot be exported; see :func:`~hsakd.apis.export_onnx`.
    """
    model, _ = export_onnx(classifier)  # moves it to the CPU
    image = torch.zeros(1, image_channels(classifier.backbone), *input_size(classifier))
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        classifier.eval()(image)
    return Cost(
        sum(parameter.numel() for parameter in classifier.parameters()),
        flops.get_total_flops() // 2,
        len(model) / 1e6,
        _latency(model, image.numpy()),
    )


def _latency(model: bytes, image: np.ndarray) -> float:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider'])
    seconds = []
    for _ in range(_WARM_UP + _TIMED):
        began = time.perf_counter()
        session.run(None, {'images': image})
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds[_WARM_UP:])

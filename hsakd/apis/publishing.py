"""From a plain classifier, or a detector, to files that others use."""

import hashlib
import io
import json
import re
import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import mmpretrain
import numpy as np
import torch
from mmengine.config import Config
from mmpretrain.models import ImageClassifier
from torch import Tensor, nn

from hsakd import __version__
from hsakd.utils.checkpoint import read_checkpoint
from hsakd.utils.errors import UserError
from hsakd.utils.files import write_files
from hsakd.utils.networks import image_channels

from .classifier import input_size, resizing
from .conversion import checkpoint_bytes

if TYPE_CHECKING:  # mmdet is imported when a detector is met
    from mmdet.models import BaseDetector

#: Largest difference between the logits of ONNX Runtime and PyTorch, relative to the largest logit
#: where that is above 1.
ONNX_TOLERANCE = 1e-4


#: Of ONNX's operators; runtimes from 2023 on have them.
_OPSET = 18
#: What the channels of an image are.
_ORDER = {1: 'gray', 3: 'RGB'}


def publish(
    classifier: ImageClassifier,
    prefix: str | Path,
    onnx: bytes | None = None,
    force: bool = False,
) -> list[Path]:
    """Write a classifier as ``PREFIX-HASH8.pth``, self-contained, with its config next to it.

    ``mmpretrain.get_model('PREFIX-HASH8.py', pretrained=True)`` loads it, and so does
    ``ImageClassificationInferencer('PREFIX-HASH8.py')``.

    Args:
        classifier: As :func:`~hsakd.apis.load_classifier` gives it.
        prefix: Folder and start of the names. HASH8 are the first digits of the SHA-256 of the
            .pth file; the same weights and config give the same name.
        onnx: What to write as ``PREFIX-HASH8.onnx``, from :func:`export_onnx`. Its metadata are
            written beside it, as ``PREFIX-HASH8.json``.
        force: Replace files of the same names and other content.

    Returns:
        The files.

    Raises:
        UserError: A file exists or cannot be written.
    """
    meta = dict(classifier._dataset_meta)
    return _write(classifier, classifier._config, meta, mmpretrain, prefix, onnx, force)


def publish_detector(
    detector: 'BaseDetector', prefix: str | Path, onnx: bytes | None = None, force: bool = False
) -> list[Path]:
    """Write a detector as ``PREFIX-HASH8.pth`` with its config next to it, as :func:`publish` does.

    ``mmdet.apis.init_detector('PREFIX-HASH8.py', 'PREFIX-HASH8.pth')`` loads it, and so does
    ``DetInferencer`` of the same. Neither needs hsakd, unless a part of the detector is ours; the
    config then imports it.

    Args:
        detector: As :func:`~hsakd.apis.load_detector` gives it.
        prefix: See :func:`publish`.
        onnx: What to write as ``PREFIX-HASH8.onnx``, from
            :func:`~hsakd.apis.detector_onnx.export_detector`.
        force: Replace files of the same names and other content.

    Returns:
        The files.

    Raises:
        UserError: A file exists or cannot be written.
    """
    import mmdet

    return _write(detector, detector.cfg, detector.dataset_meta, mmdet, prefix, onnx, force)


def _write(
    model: nn.Module,
    config: Config,
    dataset_meta: dict,
    package: ModuleType,
    prefix: str | Path,
    onnx: bytes | None,
    force: bool,
) -> list[Path]:
    content = checkpoint_bytes(
        {
            'state_dict': {key: value.cpu() for key, value in model.state_dict().items()},
            'meta': {
                'cfg': config.pretty_text,
                'dataset_meta': dataset_meta,
                'hsakd_version': __version__,
                f'{package.__name__}_version': package.__version__,
            },
        }
    )
    stem = f'{prefix}-{hashlib.sha256(content).hexdigest()[:8]}'
    checkpoint = Path(f'{stem}.pth')
    # mmengine replaces the braces by the folder of the config file.
    load_from = f"load_from = '{{{{ fileDirname }}}}/{checkpoint.name}'\n"
    files = {checkpoint: content, Path(f'{stem}.py'): f'{config.pretty_text}\n{load_from}'.encode()}
    if onnx is not None:
        files[Path(f'{stem}.onnx')] = onnx
        files[Path(f'{stem}.json')] = _metadata(onnx)
    write_files(files, force)
    return list(files)


def _metadata(onnx: bytes) -> bytes:
    """What the metadata of an ONNX model say, as JSON."""
    from onnx import load_from_string

    found = {prop.key: prop.value for prop in load_from_string(onnx).metadata_props}
    found |= {key: json.loads(found[key]) for key in ('resize', 'classes')}
    return json.dumps(found, indent=1).encode()


def experiment_name(checkpoint: str | Path) -> str:
    """A name for the files of a training checkpoint: its experiment's, or that of its folder."""
    meta = read_checkpoint(checkpoint, 'checkpoint').get('meta') or {}
    name = str(meta.get('experiment_name') or '')
    name = re.sub(r'_?\d{8}_\d{6}$', '', name)  # mmengine appends the time
    return Path(name).name or Path(checkpoint).resolve().parent.name


class _Deployed(nn.Module):
    """Raw images to logits: normalization, and the classifier."""

    def __init__(self, classifier: ImageClassifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.preprocessor = classifier.data_preprocessor

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, K] of images [N, C, H, W], RGB where C is 3, 0..255."""
        if images.shape[1] == 3 and not self.preprocessor.to_rgb:  # trained on BGR
            images = images.flip(1)
        if hasattr(self.preprocessor, 'mean'):
            images = (images - self.preprocessor.mean) / self.preprocessor.std
        return self.classifier(images)


def export_onnx(classifier: ImageClassifier) -> tuple[bytes, float]:
    """A classifier as an ONNX model, compared with PyTorch on a batch.

    Input ``images``: float32 [N, C, H, W], RGB for three channels and gray for one, 0..255, N any,
    H and W those of the test pipeline; normalization is inside. Output ``logits`` [N, K]. The
    metadata say so, and hold the names of the classes and, as ``resize``, the steps that make an
    image so large.

    Args:
        classifier: As :func:`~hsakd.apis.load_classifier` gives it.

    Returns:
        The content of the .onnx file, and the largest absolute difference of the logits.

    Raises:
        UserError: The difference is above :data:`ONNX_TOLERANCE`.
    """
    import onnx
    import onnxruntime

    deployed = _Deployed(classifier).cpu().eval()
    channels, (height, width) = image_channels(classifier.backbone), input_size(classifier)
    # Another number of images than that of the export, so that N is known to be free.
    traced, checked = (255 * torch.rand(5, channels, height, width)).split([2, 3])
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The newer exporter needs onnxscript; tracing warns of shapes, which are compared below.
        warnings.filterwarnings('ignore', category=DeprecationWarning, module='torch')
        warnings.filterwarnings('ignore', category=DeprecationWarning, message='.*dynamo')
        warnings.filterwarnings('ignore', category=torch.jit.TracerWarning)
        torch.onnx.export(
            deployed,
            (traced,),
            buffer,
            input_names=['images'],
            output_names=['logits'],
            dynamic_axes={'images': {0: 'N'}, 'logits': {0: 'N'}},
            opset_version=_OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    onnx.helper.set_model_props(
        model,
        {
            'input': f'images: float32 [N, {channels}, {height}, {width}], '
            f'{_ORDER.get(channels, f"{channels} channels")}, 0..255, not normalized '
            '(normalization is inside the model)',
            'resize': json.dumps(resizing(classifier)),
            'output': 'logits: float32 [N, K], before softmax',
            'classes': json.dumps(list(classifier._dataset_meta.get('classes', []))),
            'opset': str(_OPSET),
            'hsakd_version': __version__,
        },
    )
    onnx.checker.check_model(model)
    content = model.SerializeToString()

    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    found = session.run(None, {'images': checked.numpy()})[0]
    with torch.no_grad():
        wanted = deployed(checked).numpy()
    difference = float(np.abs(found - wanted).max())
    tolerance = ONNX_TOLERANCE * max(1.0, float(np.abs(wanted).max()))
    UserError.check(
        difference <= tolerance,
        'ONNX model, not written',
        f'the logits of PyTorch within {tolerance:.3g}',
        f'logits off by {difference:.3g}',
    )
    return content, difference

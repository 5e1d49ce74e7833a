import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer
from torch import Tensor

from hsakd.datasets.image_folder import read_image
from hsakd.utils.errors import ConfigError
from hsakd.utils.networks import unwrap

#: What OpenCV writes of the suffixes that images have.
_WRITTEN = ('.jpg', '.jpeg', '.png', '.bmp')


class PredictionHook(Hook):
    """Draws what a model predicts in a test, each image to a file of its own.

    Pictures lie in ``out_dir`` as the images do below the folder that they have in common. Those of
    images without a path are named by their number.

    Args:
        out_dir: Folder for the pictures; None: only shown.
        interval: Draw every n-th image.
        **draw_args: Passed on to the visualizer, e.g. ``show`` and ``wait_time``.
    """

    def __init__(self, out_dir: Path | None, interval: int = 1, **draw_args: object) -> None:
        self.out_dir, self.interval, self.draw_args = out_dir, interval, draw_args
        self._count = 0

    def before_test(self, runner: Runner) -> None:
        """Find the folder that all images are in.

        Raises:
            ConfigError: The visualizer of the config draws no predictions.
        """
        kind = type(runner.visualizer)
        those = 'mmpretrain.UniversalVisualizer, or mmdet.DetLocalVisualizer for detectors'
        ConfigError.check(kind is not Visualizer, 'visualizer.type', those, kind.__name__)
        dataset = runner.test_dataloader.dataset
        read = getattr(dataset, 'get_data_info', lambda index: {})
        infos = (read(index) for index in range(len(dataset)))
        folders = {
            os.path.dirname(os.path.abspath(i['img_path'])) for i in infos if 'img_path' in i
        }
        self._root = os.path.commonpath(folders) if folders else '/'

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict,
        outputs: Sequence[BaseDataElement],
    ) -> None:
        """Draw the samples of a batch whose turn it is."""
        swap = getattr(unwrap(runner.model).data_preprocessor, 'to_rgb', False)
        for inputs, sample in zip(data_batch['inputs'], outputs, strict=True):
            self._count += 1
            if (self._count - 1) % self.interval:
                continue
            path = sample.get('img_path')
            number = sample.get('sample_idx', self._count - 1)
            name = os.path.relpath(path, self._root) if path else str(number)
            draw_args = dict(self.draw_args, name=name, step=self._count)
            if 'pred_instances' in sample:  # boxes are in pixels of the file
                draw, image = runner.visualizer.add_datasample, read_image(path)[..., ::-1]
                name += '' if Path(name).suffix.lower() in _WRITTEN else '.png'
            else:
                draw, image = runner.visualizer.visualize_cls, _shown(inputs, swap)
                name += '.png'
            if self.out_dir:
                draw_args['out_file'] = str(self.out_dir / name)
            draw(image=image, data_sample=sample, **draw_args)


def _shown(inputs: Tensor, swap: bool) -> np.ndarray:
    """An image [C, H, W], 0..255, as RGB [H, W, 3] of uint8; other than 3 channels as gray."""
    inputs = inputs if len(inputs) == 3 else inputs[:1].expand(3, -1, -1)
    inputs = inputs.flip(0) if swap else inputs
    return inputs.permute(1, 2, 0).cpu().numpy().astype('uint8')

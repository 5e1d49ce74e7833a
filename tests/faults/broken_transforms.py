"""Transforms that misbehave at one image, for ``custom_imports`` of a config."""

import os
import signal
import time

from mmcv.transforms import BaseTransform

from hsakd.registry import TRANSFORMS


@TRANSFORMS.register_module()
class Misbehaves(BaseTransform):
    """Does ``what`` at the image whose path ends so.

    Args:
        at: End of the path.
        what: 'die' as under the kernel's OOM killer, 'hang', or 'stop' with an error of its own.
    """

    def __init__(self, at: str, what: str) -> None:
        self.at = at
        self.what = what

    def transform(self, results: dict) -> dict:
        if results['img_path'].endswith(self.at):
            if self.what == 'die':
                os.kill(os.getpid(), signal.SIGKILL)
            while self.what == 'hang':
                time.sleep(60)
            raise RuntimeError('no such luck')
        return results

"""hsakd: hierarchical self-supervision augmented knowledge distillation on the OpenMMLab stack."""

from . import registry
from .utils import mmcv_ext
from .version import __version__

mmcv_ext.install()

__all__ = ['__version__', 'registry']

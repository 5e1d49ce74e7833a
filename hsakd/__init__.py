"""hsakd: hierarchical self-supervision augmented knowledge distillation on the OpenMMLab stack."""

from . import registry
from .utils import checkpoint_schemes, mmcv_ext, yapf_cache
from .version import __version__

mmcv_ext.install()
checkpoint_schemes.install()
yapf_cache.install()

__all__ = ['__version__', 'registry']

"""hsakd: hierarchical self-supervision augmented knowledge distillation on the OpenMMLab stack."""

from . import registry
from .version import __version__

__all__ = ['__version__', 'registry']

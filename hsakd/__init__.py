"""hsakd: hierarchical self-supervision augmented knowledge distillation on the OpenMMLab stack."""

from . import registry
from .version import __version__


def setup() -> None:
    """Read checkpoints safely from here on, and do what else this process needs.

    Tools and ``hsakd.apis`` call it; see :mod:`hsakd.utils.setup`. ``import hsakd`` alone only
    registers types.
    """
    from .utils.setup import setup

    setup()


def distill(*args, **kwargs):
    """See :func:`hsakd.apis.distillation.distill`."""
    from .apis.distillation import distill

    return distill(*args, **kwargs)


def detect(*args, **kwargs):
    """See :func:`hsakd.apis.detection.detect`."""
    from .apis.detection import detect

    return detect(*args, **kwargs)


__all__ = ['__version__', 'detect', 'distill', 'registry', 'setup']

"""Metrics of auxiliary branches, of several networks, and of detectors."""

from importlib.util import find_spec

from .branch_accuracy import BranchAccuracy
from .network_accuracy import NetworkAccuracy

if find_spec('mmdet'):
    from hsakd.utils.third_party import import_quietly

    import_quietly('mmdet.evaluation')
    from .coco_metric import CocoMetric  # noqa: F401

__all__ = ['BranchAccuracy', 'NetworkAccuracy']

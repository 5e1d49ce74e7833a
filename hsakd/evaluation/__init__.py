"""Metrics of auxiliary branches, of several networks, and of detectors."""

from importlib.util import find_spec

from mmpretrain.evaluation import ConfusionMatrix

from hsakd.registry import METRICS

from .branch_accuracy import BranchAccuracy
from .network_accuracy import NetworkAccuracy

# mmpretrain's tools/analysis_tools/confusion_matrix.py asks for it without a prefix.
METRICS.register_module(module=ConfusionMatrix)

if find_spec('mmdet'):
    from hsakd.utils.third_party import import_quietly

    import_quietly('mmdet.evaluation')
    from .coco_metric import CocoMetric  # noqa: F401

__all__ = ['BranchAccuracy', 'NetworkAccuracy']

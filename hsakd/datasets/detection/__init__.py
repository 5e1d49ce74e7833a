"""mmdet's data sets in their layouts as downloaded, with their annotations checked and cleaned."""

# ruff: noqa: E402
from hsakd.utils.third_party import import_quietly

import_quietly('mmdet.datasets')

from .coco import CocoDataset
from .voc import VOCDataset

__all__ = ['CocoDataset', 'VOCDataset']

"""Imports of dependencies, without the warnings that a user can do nothing about."""

import contextlib
import importlib
import io
import logging
import warnings

from mmengine.logging import MMLogger


def import_quietly(name: str) -> None:
    """Import a module of the OpenMMLab family without its notes on absent compiled operators.

    mmpretrain imports mmdet where that is installed, and mmdet warns that an operator for lane
    detection is not compiled; mmcv warns of one for deformable attention; mmpretrain prints that a
    closed-source package is absent. No network here needs them.
    """

    def keep(record: logging.LogRecord) -> bool:
        return 'Line NMS is not compiled' not in record.getMessage()

    logger = MMLogger.get_current_instance()
    logger.addFilter(keep)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.filterwarnings('ignore', 'Fail to import ``MultiScaleDeformableAttention``')
            importlib.import_module(name)
    finally:
        logger.removeFilter(keep)

"""Imports of dependencies, without the warnings that a user can do nothing about."""

import contextlib
import importlib
import io
import logging
import warnings

from mmengine.logging import MMLogger
from mmengine.model import BaseModule

from . import mmcv_ext
from .errors import ConfigError


def import_quietly(name: str) -> None:
    """Import a module of the OpenMMLab family without its notes on absent compiled operators.

    mmpretrain imports mmdet where that is installed, and mmdet warns that an operator for lane
    detection is not compiled, and of a faster COCO metric that is absent; mmcv warns of an operator
    for deformable attention; both print that a closed-source package is absent. Nothing here needs
    them. mmdet cannot be imported without operators for mmcv, so that they are put in place.
    """
    mmcv_ext.install()

    def keep(record: logging.LogRecord) -> bool:
        return 'Line NMS is not compiled' not in record.getMessage()

    logger = MMLogger.get_current_instance()
    logger.addFilter(keep)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.filterwarnings('ignore', 'Fail to import ``MultiScaleDeformableAttention``')
            warnings.filterwarnings('ignore', 'faster_coco_eval is not installed')
            importlib.import_module(name)
    finally:
        logger.removeFilter(keep)


def initialize_quietly() -> None:
    """Keep how each parameter was initialized, thousands of lines, to log files.

    mmengine prints it where there is no log file, as in a notebook.
    """
    dump = BaseModule._dump_init_info

    def to_files(self: BaseModule) -> None:
        logger = MMLogger.get_current_instance()
        if any(isinstance(handler, logging.FileHandler) for handler in logger.handlers):
            dump(self)

    BaseModule._dump_init_info = to_files


def import_mmdet() -> None:
    """Import what detection needs.

    Raises:
        ConfigError: mmdet is not installed.
    """
    try:
        import_quietly('mmdet.evaluation')
        import_quietly('mmdet.engine')
        import_quietly('mmdet.visualization')
    except ModuleNotFoundError as error:
        if error.name != 'mmdet':
            raise
        raise ConfigError.expected(
            'a config of a detector',
            'mmdet to be installed (pip install "hsakd[detection]"; in a clone `make env`)',
            'none',
        ) from error

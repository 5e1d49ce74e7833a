"""Extensions of mmengine's runner."""

from .hooks import *  # noqa: F403
from .optimizers import SGD as SGD

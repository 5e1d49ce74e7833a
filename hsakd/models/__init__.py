"""Networks, branches, losses and distillers."""

from hsakd.utils.third_party import import_quietly, initialize_quietly

import_quietly('mmpretrain.models')
initialize_quietly()

# ruff: noqa: E402
from .backbones import *  # noqa: F403
from .data_preprocessor import DataPreprocessor  # noqa: F401
from .distillers import *  # noqa: F403
from .heads import *  # noqa: F403
from .losses import *  # noqa: F403
from .necks import *  # noqa: F403
from .networks import *  # noqa: F403
from .pretrained import PretrainedWeights  # noqa: F401
from .transforms import *  # noqa: F403

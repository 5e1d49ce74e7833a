import copy
import inspect
from collections.abc import Sequence
from functools import partial

import torch
from mmengine.model import BaseModule

from hsakd.models.backbones.stages import (
    fresh_copy,
    repeat_last_stage,
    settings_of,
    split_stages,
)
from hsakd.models.backbones.starting_weights import starting_weights
from hsakd.registry import MODELS

from .base import Branches


@MODELS.register_module()
class AuxiliaryBranches(Branches):
    """One branch for each stage of a backbone, made of the backbone's own stages (section 3.1).

    The branch at stage l is a fresh copy of stages l+1..L and of the tail; the branch at the last
    stage L is a fresh copy of stage L at stride 1 with as many input as output channels, and of the
    tail. Global average pooling follows, unless the tail pools.

    Args:
        backbone: The backbone to branch off; its weights are not shared.
        stages: The stages (from 0) that have a branch. All by default.

    Raises:
        ConfigError: The stages of this kind of backbone are not known, or ``stages`` names others.
    """

    def __init__(self, backbone: BaseModule, stages: Sequence[int] | None = None) -> None:
        parts = split_stages(backbone)
        tail = copy.deepcopy(parts.tail).eval()
        with torch.no_grad():
            embedding_channels = tail(torch.zeros(1, parts.channels, 1, 1)).shape[1]
        super().__init__(
            backbone,
            num_stages=len(parts.stages),
            stages=stages,
            make_stage=lambda stage: fresh_copy(parts.stages[stage]),
            repeat_last=partial(repeat_last_stage, backbone),
            embedding_channels=embedding_channels,
            make_tail=partial(fresh_copy, parts.tail),
        )
        self._backbone = (backbone,)  # in a tuple, since it is no part of the branches

    def init_weights(self) -> None:
        """Initialize as the family's branches start, or else by the backbone's own ``init_cfg``.

        Files of weights in it are for the backbone alone.
        """
        settings = settings_of(self._backbone[0])
        settings.init_cfg = _layer_init(self._backbone[0])
        settings.is_init = False
        settings.__dict__['_modules'] = dict(self._modules)
        settings.init_weights()
        self.is_init = True


def _layer_init(backbone: BaseModule) -> list[dict]:
    start = starting_weights(backbone)
    cfgs = [] if backbone.init_cfg == start.backbone else backbone.init_cfg or []
    cfgs = [cfgs] if isinstance(cfgs, dict) else cfgs
    own = [dict(cfg) for cfg in cfgs if cfg['type'] != 'Pretrained']
    if own or start.branches:
        return own or [dict(start.branches)]
    # Of its class, in the place of which came a file.
    constructors = (inspect.signature(kind.__init__) for kind in type(backbone).mro())
    found = (c.parameters['init_cfg'].default for c in constructors if 'init_cfg' in c.parameters)
    default = next(found, None) or []
    return [dict(cfg) for cfg in ([default] if isinstance(default, dict) else default)]

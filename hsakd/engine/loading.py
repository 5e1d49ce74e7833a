"""Weights of a checkpoint into the model of a run."""

import re
from collections.abc import Mapping
from pathlib import Path

from mmengine.logging import MMLogger
from torch import Tensor, nn

from hsakd.utils.checkpoint import (
    checkpoint_weights,
    describe_mismatch,
    load_network,
    network_state_dict,
    read_checkpoint,
    without_classifier,
)
from hsakd.utils.errors import CheckpointError
from hsakd.utils.networks import trained_networks, unwrap
from hsakd.utils.normalization import TrainedWith

_in_backbone = re.compile(r'(?:^|\.)(backbone\.)').search  # by the name of a weight


def starting_weights(model: nn.Module, checkpoint: Mapping, path: str) -> dict[str, Tensor]:
    """The weights of a checkpoint by the names of a model.

    Those of a single network go to every network under training.

    Raises:
        CheckpointError: There are none of this model, and no network.
    """
    wanted, weights = model.state_dict(), checkpoint_weights(checkpoint)
    if any(map(_in_backbone, wanted.keys() & weights.keys())):  # timm's heads are called as ours
        return weights
    prefixes = {name[: found.start(1)] for name in wanted if (found := _in_backbone(name))}
    names = [name.removeprefix(prefix) for prefix in prefixes for name in wanted]
    network = network_state_dict(checkpoint, path, 'load_from', wanted=names)
    found = {prefix + name: value for prefix in prefixes for name, value in network.items()}
    return without_classifier(found, wanted)


def load_what_fits(
    model: nn.Module, weights: Mapping[str, Tensor], path: str, logger: MMLogger
) -> None:
    """Load weights into a model: backbones whole, and of the rest what fits, which is logged.

    Raises:
        CheckpointError: A backbone does not fit.
    """
    wanted = model.state_dict()
    mismatch = describe_mismatch(
        {name: value for name, value in wanted.items() if _in_backbone(name)},
        {name: value for name, value in weights.items() if _in_backbone(name)},
    )
    fitting = {
        name: weights[name]
        for name, value in wanted.items()
        if name in weights and weights[name].shape == value.shape
    }
    found = mismatch or 'a model without one'
    where, expected = f'load_from={path!r}', 'weights of the backbone of the config'
    CheckpointError.check(fitting and not mismatch, where, expected, found)
    model.load_state_dict(fitting, strict=False)
    logger.info(f'{len(fitting)} of {len(wanted)} weights loaded from {path}')
    mismatch = describe_mismatch(wanted, weights)
    if mismatch:
        logger.warning(f'load_from={path!r}: the rest starts afresh: {mismatch}')


def load_for_test(runner, path: str | Path, checkpoint: Mapping | None = None) -> None:
    """Load a checkpoint whole into the model that a runner tests.

    That is a network, a student, all networks that learn online, or a detector. ``checkpoint`` is
    the content of ``path``, where it was read already.

    Raises:
        CheckpointError: It does not fit.
    """
    from hsakd.models import BranchedClassifier

    model = unwrap(runner.model)
    checkpoint = checkpoint or read_checkpoint(path, 'checkpoint')
    runner.trained_with = TrainedWith.of(checkpoint, f'checkpoint={str(path)!r}')
    networks = [*trained_networks(model).values()] or [model]
    if len(networks) == 1 and isinstance(networks[0], BranchedClassifier):
        load_network(networks[0], path, 'checkpoint', checkpoint=checkpoint)
        return
    wanted, weights = model.state_dict(), checkpoint_weights(checkpoint)
    if len(networks) > 1:  # without memories, which are for training
        wanted, weights = (
            {k: v for k, v in part.items() if k.startswith('networks.')}
            for part in (wanted, weights)
        )
    if networks == [model] and not wanted.keys() & weights.keys():  # mmpretrain's own classifiers
        weights = without_classifier(network_state_dict(checkpoint, path, 'checkpoint'), wanted)
    mismatch = describe_mismatch(wanted, weights)
    what = f'{len(networks)} networks' if len(networks) > 1 else 'model'
    CheckpointError.check(
        not mismatch,
        f'checkpoint={str(path)!r}',
        f'weights of the {what} of the config, a {type(model).__name__}',
        mismatch,
    )
    model.load_state_dict(weights, strict=len(networks) == 1)

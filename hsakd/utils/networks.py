"""Which networks a model has: of the model itself, of its config, settings and weights.

Networks that learn are the model itself, its ``student``, or its ``networks``; a frozen one that
others learn from is its ``teacher``. Nothing else knows these names.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping

from mmengine.model import is_model_wrapper
from torch import nn

#: What the names of the weights of the network that a reader wants start with.
WEIGHT_PREFIXES = ('', 'module.', 'student.', 'networks.0.')


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside a wrapper for several processes, or the model itself."""
    return model.module if is_model_wrapper(model) else model


def trained_networks(model: nn.Module) -> dict[str, nn.Module]:
    """The networks that learn, by their keys in the config; none for models such as detectors."""
    model = unwrap(model)
    return model.trained_networks() if hasattr(model, 'trained_networks') else {}


def frozen_networks(model: nn.Module) -> dict[str, nn.Module]:
    """The networks that others learn from and that do not learn, by their keys in the config."""
    model = unwrap(model)
    return model.frozen_networks() if hasattr(model, 'frozen_networks') else {}


def image_channels(network: nn.Module) -> int:
    """Channels of the images that a network takes: those of its first convolution, or else 3."""
    convolutions = (m for m in network.modules() if isinstance(m, nn.Conv2d))
    first = next(convolutions, None)
    return first.in_channels if first else 3


def network_configs(model: Mapping) -> dict[str, Mapping]:
    """The configs of the networks that learn, by key: ``trained_networks`` without building.

    Args:
        model: Config of a network or distiller (the key ``model`` of a config).
    """
    if 'networks' in model:
        return {f'model.networks.{i}': network for i, network in enumerate(model['networks'])}
    return {'model.student': model['student']} if 'student' in model else {'model': model}


def open_heads(model: object) -> Iterator[MutableMapping]:
    """The configs of heads with ``num_classes=None``: their classes are those of the data.

    Args:
        model: Config of a model, or a part of it.
    """
    if isinstance(model, Mapping):
        head = model.get('head')
        if isinstance(head, Mapping) and head.get('num_classes', 0) is None:
            yield head
        model = list(model.values())
    for part in model if isinstance(model, list | tuple) else ():
        yield from open_heads(part)


def has_teacher(model: Mapping) -> bool:
    """Whether a model's config has a student and a frozen teacher."""
    return {'student', 'teacher'} <= set(model)


def network_keys(settings: Iterable[str]) -> list[str]:
    """The keys of :func:`network_configs`, of flat settings such as 'model.student.head.type'."""
    matches = (re.match(r'model\.(student|networks\.\d+)(?=\.)', key) for key in settings)
    found = {match[0] for match in matches if match}
    return sorted(found, key=lambda key: (len(key), key)) or ['model']

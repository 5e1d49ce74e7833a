"""Which networks a model has: of the model itself, and of its config."""

from collections.abc import Mapping

from mmengine.model import is_model_wrapper
from torch import nn


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


def network_configs(model: Mapping) -> dict[str, Mapping]:
    """The configs of the networks that learn, by key: ``trained_networks`` without building.

    Args:
        model: Config of a network or distiller (the key ``model`` of a config).
    """
    if 'networks' in model:
        return {f'model.networks.{i}': network for i, network in enumerate(model['networks'])}
    return {'model.student': model['student']} if 'student' in model else {'model': model}

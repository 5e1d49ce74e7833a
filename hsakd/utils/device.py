"""The device that a user asks for."""

import torch

from .errors import UserError


def find_device(name: str | None) -> torch.device:
    """The device called ``name``, or a GPU if there is one.

    Raises:
        UserError: There is no such device.
    """
    if name is None:
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        gpus = torch.cuda.device_count()
        accepted = "'cpu'" + (f" and 'cuda:0' to 'cuda:{gpus - 1}'" if gpus else '; no GPU is here')
        raise UserError(f'--device={name!r} cannot be used; accepted is {accepted}') from error
    return device

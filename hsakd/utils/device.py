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
        gpus = ''.join(f", 'cuda:{i}'" for i in range(torch.cuda.device_count()))
        raise UserError.expected('--device', f"one of 'cpu'{gpus}", repr(name)) from error
    return device

"""Names of devices."""

import torch

from dim.errors import UserError


def choose_device(name: str) -> torch.device:
    """`auto` (a GPU if there is one) or a device's name as a device that is there.

    Raises:
        UserError: if it cannot be used here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device '{name}' cannot be used here ({str(error).splitlines()[0]})") from error
    return device

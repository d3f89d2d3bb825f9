"""Names of devices."""

import torch
from torch import Tensor

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


def waits(tensor: Tensor) -> bool:
    """Whether looking at a number of `tensor` waits for the work that is queued on its device."""
    return tensor.device.type != "cpu"


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on `device`. The copy is queued behind the device's work; the CPU waits for neither."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)

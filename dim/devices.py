"""Devices: their names, what waits for them, how exactly they calculate."""

import contextlib
from collections.abc import Iterator

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
        torch.zeros(1, dtype=torch.float64, device=device).item()  # standardisers and solvers count in float64
    except (RuntimeError, AssertionError, TypeError) as error:
        raise UserError(f"device '{name}' cannot be used here ({str(error).splitlines()[0]})") from error
    return device


def waits(tensor: Tensor) -> bool:
    """Whether looking at a number of `tensor` waits for the work that is queued on its device."""
    return tensor.device.type != "cpu"


def seed_default(seed: int, device: torch.device) -> None:
    """Seeds what torch draws from by default on the CPU and on `device`.

    `torch.manual_seed` does so for every kind of device that there is, and where one has not begun it writes down the
    call stack for each: under a trainer a hundredth of a training step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on `device`. The copy is queued behind the device's work; the CPU waits for neither."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@contextlib.contextmanager
def exact_products() -> Iterator[None]:
    """float32 products and convolutions without TF32 or bfloat16, whatever a training run chose."""
    precision, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False  # PyTorch's default is True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = convolutions

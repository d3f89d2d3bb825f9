"""What an estimator is given: pairs checked and as tensors, and their scales."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dim.errors import UserError

Pairs = tuple[Tensor, Tensor]
"""x (N, ...) and z (N, ...)."""


class Scale(nn.Module):
    """uint8 images to [-1, 1]; others to vectors of zero mean and unit variance of the rows that are given."""

    mean: Tensor
    scale: Tensor

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.image = rows.ndim == 4
        if not self.image:
            flat = rows.flatten(1).double()
            mean, scale = flat.mean(0), flat.std(0)
            # Below its type's resolution around its mean, a feature's variation is rounding.
            resolution = min(1e-6, 8 * torch.finfo(rows.dtype).eps) if rows.is_floating_point() else 0.0
            self.register_buffer("mean", mean)
            self.register_buffer("scale", scale.masked_fill(scale <= resolution * mean.abs(), 1.0))

    def forward(self, rows: Tensor) -> Tensor:
        if not self.image:
            # The mean is taken off before rounding to float32: times and places lie far from zero.
            return ((rows.flatten(1).double() - self.mean) / self.scale).float()
        return rows.float() / 127.5 - 1 if rows.dtype == torch.uint8 else rows.float()


def as_pairs(x: Any, z: Any, name: str | None) -> Pairs:
    """Both sides as tensors (n, ...), checked unless `name`, what messages call them, is None.

    Raises:
        UserError: for unequal lengths, nothing, NaN or infinity, constants, no numbers, images of another shape or
            scale.
    """
    sides = []
    for side, values in (("x", x), ("z", z)):
        tensor = values.detach() if isinstance(values, Tensor) else _array(values, side)
        tensor = tensor[:, None] if tensor.ndim == 1 else tensor
        sides.append(tensor)
        if name is None:
            continue
        if tensor.ndim == 4 and side == "x":
            _check_images(tensor)
        if tensor.ndim == 0:
            raise UserError(f"mine: {name} {side} is a single number: give one for each pair")
        if not len(tensor) or (tensor.is_floating_point() and not tensor.isfinite().all()):
            raise UserError(f"mine: {name} {side} is empty or holds NaN or infinity")
        if len(tensor) == 1:
            raise UserError(f"mine: {name} {side} is one row: information is between many")
        if (tensor == tensor[:1]).all():
            raise UserError(f"mine: {name} {side} is constant: its mutual information with anything is 0")
    if len(sides[0]) != len(sides[1]):
        raise UserError(f"mine: {name} x has {len(sides[0])} rows and z {len(sides[1])}: they must be pairs")
    return sides[0], sides[1]


def _array(values: Any, side: str) -> Tensor:
    array = np.ascontiguousarray(values)
    if array.dtype.kind not in "biuf":
        raise UserError(f"mine: {side} holds {array.dtype}: give numbers")
    return torch.as_tensor(array)


def _check_images(images: Tensor) -> None:
    height, width = images.shape[2:]
    if height != width or height < 8:
        raise UserError(f"mine: images are {height} x {width}: they must be square, of at least 8 pixels")
    if images.dtype != torch.uint8 and images.numel() and images.float().abs().max() > 1:
        raise UserError("mine: images reach beyond [-1, 1]: give uint8, or scale them")


def ordered(x: Tensor, z: Tensor, order: Tensor) -> Pairs:
    """The pairs in another order."""
    return x[order.to(x.device)], z[order.to(z.device)]


def cut(x: Tensor, z: Tensor, share: float, generator: torch.Generator) -> tuple[Pairs, Pairs]:
    """A share of the pairs and the others, both in random order."""
    order = torch.randperm(len(x), generator=generator)
    rows = max(2, round(share * len(x)))
    return ordered(x, z, order[:rows]), ordered(x, z, order[rows:])

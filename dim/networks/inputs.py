"""What encoders are given: recognised before it makes features that look like features and are not."""

import warnings

import torch
from torch import Tensor

from dim.errors import UserError

SCALING = "images in [-1, 1]"
"""What every encoder of this package takes; uint8 images become it by `images.float() / 127.5 - 1`."""
ROUNDING = 1e-2
"""How far from [-1, 1] half precision and resizing may take a value."""


def check_images(images: Tensor, size: int) -> None:
    """Looks whether images (N, 3, S, S) are what an encoder for S = `size` was trained on; waits for the device.

    Warns where no value is below 0: images in [0, 1] cannot be told from bright ones in [-1, 1].

    Raises:
        UserError: another type than floating point, another shape, values outside [-1, 1], NaN.
    """
    if not images.is_floating_point():
        name = str(images.dtype).removeprefix("torch.")
        raise UserError(f"features of {name} images: scale them to [-1, 1] first, images.float() / 127.5 - 1")
    if images.ndim != 4 or images.shape[1:] != (3, size, size):
        raise UserError(f"features: images must be (N, 3, {size}, {size}), found {tuple(images.shape)}")
    if not len(images):
        return
    low, high = torch.stack(images.detach().aminmax()).tolist()
    if not (low >= -1 - ROUNDING and high <= 1 + ROUNDING):  # NaN is neither
        raise UserError(
            f"features: images must be in [-1, 1], found values from {low:.4g} to {high:.4g}: scale them, for 0 to 255 "
            "by images / 127.5 - 1, without a data set's mean and deviation"
        )
    if low >= 0 and len(images) > 1:
        warnings.warn(
            "features: no value of these images is below 0; if they are in [0, 1], scale them to [-1, 1] by "
            "2 * images - 1",
            stacklevel=3,
        )

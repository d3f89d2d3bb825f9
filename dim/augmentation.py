"""Two random views of each image, for the recipe that is not the paper's: crops, mirroring, colours.

Scoring the code of one view against the map of another follows Bachman et al. 2019 ("Learning representations by
maximizing mutual information across views", AMDIM), an extension of Deep InfoMax by some of its authors. The paper
itself uses no augmentation. How strong views are is chosen here.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

NUMBERS = 10
"""Uniform numbers in [0, 1) that a view of one image takes."""
SMALLEST_AREA = 0.3
"""Crops keep a share of the image's area from here to all of it."""
ASPECT = 4 / 3
"""A crop is at most so many times as wide as it is high, or as high as wide."""
JITTER = 0.4
"""Brightness, contrast and saturation are scaled by factors up to so far from 1."""
COLOURED, GREY = 0.8, 0.2
"""Probabilities that an image's colours change at all, and that it loses them."""


def random_view(images: Tensor, numbers: Tensor) -> Tensor:
    """A view of each image (N, 3, S, S) in [-1, 1], of the same size, that `numbers` (N, NUMBERS) determine."""
    colours = recolour(crop(images, numbers[:, :5]), numbers[:, 5:])
    return colours.contiguous(memory_format=torch.channels_last)


def crop(images: Tensor, numbers: Tensor) -> Tensor:
    """Resized crops; `numbers` (N, 5): area, aspect, horizontal and vertical place, whether mirrored (from 0.5)."""
    area, aspect, across, down, mirrored = numbers.unbind(1)
    side = (SMALLEST_AREA + (1 - SMALLEST_AREA) * area).sqrt()
    stretch = ((2 * aspect - 1) * math.log(ASPECT) / 2).exp()
    width, height = (side * stretch).clamp(max=1), (side / stretch).clamp(max=1)
    pixels = (torch.arange(images.shape[-1], device=images.device) * 2 + 1) / images.shape[-1] - 1

    def places(extent: Tensor, place: Tensor, towards: Tensor) -> Tensor:
        """Where the pixels of a row or column lie in the image, (N, S) in [-1, 1]."""
        # Sums and elementwise products alone: autocast would round a product of matrices.
        return ((2 * place - 1) * (1 - extent))[:, None] + (towards * extent)[:, None] * pixels

    x = places(width, across, torch.where(mirrored < 0.5, 1.0, -1.0))
    y = places(height, down, torch.ones_like(height))
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), -1)
    # To the middle of the outermost pixels, which is padding by the border, that not every device can do.
    edge = 1 - 1 / images.shape[-1]
    return functional.grid_sample(images, grid.clamp(-edge, edge), padding_mode="zeros", align_corners=False)


def recolour(images: Tensor, numbers: Tensor) -> Tensor:
    """Brightness, then contrast, then saturation scaled, or all grey.

    `numbers` (N, 5): the three factors, whether colours change, whether they go.
    """
    *shares, change, grey = numbers[:, :, None, None, None].unbind(1)
    brightness, contrast, saturation = (
        torch.where(change < COLOURED, 1 + JITTER * (2 * share - 1), 1.0) for share in shares
    )
    light = ((images + 1) / 2 * brightness).clamp(0, 1)
    mean = _luminance(light).mean((2, 3), keepdim=True)
    light = (mean + contrast * (light - mean)).clamp(0, 1)
    plain = _luminance(light)
    light = (plain + torch.where(grey < GREY, 0.0, saturation) * (light - plain)).clamp(0, 1)
    return 2 * light - 1


def _luminance(light: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, 1, H, W), ITU-R BT.601."""
    red, green, blue = light.split(1, 1)
    return 0.299 * red + 0.587 * green + 0.114 * blue

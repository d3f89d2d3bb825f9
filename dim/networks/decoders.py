"""Decoders: codes (N, C) -> images (N, 3, S, S) in [-1, 1]."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from dim.errors import UserError
from dim.networks.encoders import linear_block

PROBE_WIDTHS = (512, 256, 128, 64)
"""Of the decoder that Table 4 fits on a frozen code."""
BASELINE_WIDTHS = (256, 128, 64, 64)
"""Of the baselines' decoder (autoencoders, BiGAN's generator), as in the lab's code of the time, of which it is not
known whether it made the tables."""


class Decoder(nn.Module):
    """linear -> widths[0] x 4 x 4, then one transposed convolution a further width, conv 3x3 -> 3, tanh.

    Batch norm and ReLU follow the linear layer and every transposed convolution (4x4, stride 2), which double
    the side. For images above 32x32 the last width is repeated (the paper does not say).

    Raises:
        UserError: an image side that is not 32, 64, 128, ...
    """

    def __init__(self, code_size: int, image_size: int = 32, widths: Sequence[int] = BASELINE_WIDTHS) -> None:
        super().__init__()
        widths, side = list(widths), 4 * 2 ** (len(widths) - 1)
        while side < image_size:
            widths.append(widths[-1])
            side *= 2
        if side != image_size:
            raise UserError(f"decoder: images must have a side of 32, 64, 128, ..., found {image_size}")
        self.first = linear_block(code_size, widths[0] * 4 * 4)
        self.stages = nn.Sequential(*(upsampling(a, b) for a, b in itertools.pairwise(widths)))
        self.last = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, codes: Tensor) -> Tensor:
        """Images of codes (N, C)."""
        return self.last(self.stages(self.first(codes).unflatten(1, (-1, 4, 4)))).tanh()


def upsampling(channels: int, out: int) -> nn.Sequential:
    """Transposed convolution that doubles the side, batch norm, ReLU."""
    return nn.Sequential(
        nn.ConvTranspose2d(channels, out, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )

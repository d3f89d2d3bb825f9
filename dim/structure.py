"""Structure tasks beside the objectives (section 4.4, table 5): where a feature lies, and what is hidden."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dim.networks.critics import EncodeBlock

Coordinates = Literal["none", "absolute", "relative"]
BLOCK = 10
"""Side of the square of which one must stay visible and one must be hidden, for images of 32 pixels."""


def random_boxes(images: int, generator: torch.Generator, side: int = 32) -> Tensor:
    """Boxes to occlude, (images, 4): top, left, height, width in pixels.

    Each hides at least a BLOCK x BLOCK square and leaves one visible above or below it (not beside it alone); sizes
    and places are uniform within that. The paper's own distribution was not published.
    """
    block = BLOCK * side // 32
    sizes = torch.randint(block, side - block + 1, (images, 2), generator=generator)
    height, width = sizes.unbind(1)
    # Tops that leave `block` rows below, then those that leave them above, without counting any twice.
    below = (side - block - height + 1).clamp(max=block)
    above = side - height - block + 1
    pick = (torch.rand(images, generator=generator) * (below + above)).long()
    top = torch.where(pick < below, pick, pick - below + block)
    left = (torch.rand(images, generator=generator) * (side - width + 1)).long()
    return torch.stack([top, left, height, width], 1)


def occlude(images: Tensor, boxes: Tensor) -> Tensor:
    """Images (N, 3, S, S) with each box set to 0, the middle of [-1, 1]."""
    side = torch.arange(images.shape[-1], device=images.device)
    top, left, height, width = boxes[:, :, None].unbind(1)
    rows = (side >= top) & (side < top + height)
    columns = (side >= left) & (side < left + width)
    return images.masked_fill((rows[:, :, None] & columns[:, None])[:, None], 0.0)


def random_partners(images: int, positions: int, generator: torch.Generator) -> Tensor:
    """For each image a random permutation of its positions, (images, positions)."""
    return torch.rand(images, positions, generator=generator).argsort(1)


class CoordinateHead(nn.Module):
    """Predicts row and column of a position from the code and the position's features, or of one to another.

    The input goes through the encode-and-dot block of `units`, then to the logits: one class for each row and
    column (absolute), or for each difference of rows and columns (relative; 2 S - 1 classes each).
    """

    def __init__(self, shape: tuple[int, ...], code_size: int, units: int, relative: bool) -> None:
        super().__init__()
        channels, self.height, self.width = shape
        self.relative = relative
        self.block = EncodeBlock(code_size + channels * (2 if relative else 1), units)
        self.classes = [2 * n - 1 if relative else n for n in (self.height, self.width)]
        self.logits = nn.Linear(units, sum(self.classes))

    def forward(self, y: Tensor, maps: Tensor, partners: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy (nats, rows plus columns) and share of positions with both right.

        Args:
            y: codes (N, Y).
            maps: (N, C, H, W).
            partners: (N, H W), for each position the one it is compared with; used by the relative task.
        """
        rows = maps.flatten(2).transpose(1, 2)  # (N, L, C)
        place = torch.arange(rows.shape[1], device=y.device).expand(len(y), -1)
        row, column = place // self.width, place % self.width
        parts = [y[:, None].expand(-1, rows.shape[1], -1), rows]
        if self.relative:
            parts.append(rows.gather(1, partners[..., None].expand_as(rows)))
            row = row - partners // self.width + self.height - 1
            column = column - partners % self.width + self.width - 1
        logits = self.logits(self.block(torch.cat(parts, -1))).flatten(0, 1).split(self.classes, 1)
        goals = row.flatten(), column.flatten()
        loss = sum((cross_entropy(part, goal) for part, goal in zip(logits, goals, strict=True)), y.new_zeros(()))
        right = [part.argmax(1) == goal for part, goal in zip(logits, goals, strict=True)]
        return loss, (right[0] & right[1]).float().mean()

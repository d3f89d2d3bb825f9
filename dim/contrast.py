"""Which pairs are positives and which are negatives: from codes and maps to the rows that objectives take.

Positives are a code and the positions of its own image's map; negatives of image i are the positions of every
other image of the batch, the batches of all processes together when `union` is set. Positives are never among
the negatives.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dim import distributed
from dim.devices import to_device
from dim.networks.critics import Critic


class Scores(NamedTuple):
    """Rows for an objective: positive (N, P) and negative (N, K)."""

    positive: Tensor
    negative: Tensor


def code_vectors(y: Tensor) -> Tensor:
    """(N, Y) -> (N, 1, Y); a map of global vectors (N, Y, H, W) -> (N, G, Y) with G = H W."""
    return y.flatten(2).transpose(1, 2) if y.ndim == 4 else y[:, None]


def contrast(
    critic: Critic,
    y: Tensor,
    maps: Tensor,
    negatives: int | None = None,
    union: bool = False,
    generator: torch.Generator | None = None,
) -> Scores:
    """Scores codes y (N, Y), or G global vectors an image (N, Y, H, W), against maps of the same N images.

    Args:
        negatives: None pairs every code with all positions of all other images: positive (N G, L), negative
            (N G, (M-1) L) with M images in the union. A number draws so many other images for each positive,
            at its own position, without repetition: positive (N G L, 1), negative (N G L, K).
        union: take negatives from the batches of all processes (equal in size).
        generator: on the CPU and in the same state in every process; only drawing uses it.

    Raises:
        ValueError: there are too few images for the negatives, negatives below 1, codes and maps of other images.
    """
    images = len(y) * (distributed.size() if union else 1)
    if len(maps) != len(y) or (negatives is not None and negatives < 1):
        raise ValueError(
            f"need maps of the codes' images and negatives of 1 or more: {len(y)} codes, {len(maps)} maps, "
            f"negatives {negatives}"
        )
    if images <= (negatives or 1):
        raise ValueError(f"{negatives or 1} negatives need a batch of more images than that, got {images}")
    codes, keys = code_vectors(y), critic.keys(maps)
    queries = critic.queries(codes.flatten(0, 1))
    start = distributed.rank() * len(y) if union else 0
    if negatives is None:
        return _all_pairs(all_scores(critic, queries, keys, union), len(y), start)
    shifts = to_device(_shifts(keys.shape[1], images, negatives, generator), y.device)
    return _drawn_pairs(critic, queries, keys, shifts, images, start, union)


def all_scores(critic: Critic, queries: Tensor, keys: Tensor, union: bool) -> Tensor:
    """(N G, M, L): this process's codes against the M images of the union, in the order of ranks.

    Maps stay where they are: every process scores the codes of all against its own maps and sends back the
    scores, which are far smaller than the maps.
    """
    if not union or distributed.size() == 1:
        return critic.scores(queries, keys)
    blocks = critic.scores(distributed.gather(queries), keys)
    received = distributed.exchange(blocks.unflatten(0, (distributed.size(), len(queries))))
    return received.transpose(0, 1).flatten(1, 2)


def _all_pairs(scores: Tensor, rows: int, start: int) -> Scores:
    """Splits (N G, M, L), image i's own map in column start + i, other columns staying in order."""
    table = scores.unflatten(0, (rows, -1)).transpose(1, 2)  # (N, M, G, L)
    own, others = _Split.apply(table, start)
    return Scores(own.flatten(0, 1), others.transpose(1, 2).flatten(2).flatten(0, 1))


class _Split(torch.autograd.Function):
    """(N, M, ...) -> (N, ...), column start + i of each row i, and (N, M-1, ...), all other columns in order.

    Slices would do, but the gradient of each is an array of zeros with a part filled in, and their sum: several passes
    over what is the largest array of a step. Here the gradient is written once.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, start: int) -> tuple[Tensor, Tensor]:
        ctx.start = start
        rows, columns = table.shape[:2]
        others = table.new_empty(rows, columns - 1, *table.shape[2:])
        own, pairs = _parts(table.contiguous(), others, start)
        for source, target in pairs:
            target.copy_(source)
        return own.clone(), others

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, own: Tensor, others: Tensor) -> tuple[Tensor, None]:
        rows, columns = others.shape[0], others.shape[1] + 1
        table = others.new_empty(rows, columns, *others.shape[2:])
        place, pairs = _parts(table, others, ctx.start)
        place.copy_(own)
        for target, source in pairs:
            target.copy_(source)
        return table, None


def _parts(table: Tensor, others: Tensor, start: int) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """The view of a contiguous table's own columns, and pairs of views of table and others that hold the same."""
    rows, columns = table.shape[:2]
    flat, rest = table.flatten(0, 1), others.flatten(0, 1)
    # In row-major order, own columns are M + 1 apart, with M others in between.
    last, between = start + (rows - 1) * (columns + 1), (rows - 1) * columns
    middle = flat[start:last].unflatten(0, (rows - 1, columns + 1))[:, 1:]
    return flat[start :: columns + 1], [
        (flat[:start], rest[:start]),
        (middle, rest[start : start + between].unflatten(0, (rows - 1, columns))),
        (flat[last + 1 :], rest[start + between :]),
    ]


def _shifts(positions: int, images: int, k: int, generator: torch.Generator | None) -> Tensor:
    """(L, K): at each position, K different steps to another image.

    A cyclic shift permutes the batch without fixed points; each position has its own shifts, as the authors
    permute the map at each position on its own.
    """
    return torch.rand(positions, images - 1, generator=generator).argsort(1)[:, :k] + 1


def _drawn_pairs(
    critic: Critic, queries: Tensor, keys: Tensor, shifts: Tensor, images: int, start: int, union: bool
) -> Scores:
    rows, positions = keys.shape[:2]
    image = torch.arange(rows, device=queries.device).repeat_interleave(len(queries) // rows)
    other = (image[:, None, None] + start + shifts) % images  # (N G, L, K)
    if critic.separable:
        # Scoring all pairs costs less than gathering keys.
        scores = all_scores(critic, queries, keys, union)
        positive = scores[torch.arange(len(queries), device=queries.device), image + start]
        negative = scores.transpose(1, 2).gather(2, other)
    else:
        positive = critic.pairs(queries[:, None], keys[image])
        place = torch.arange(positions, device=queries.device)[:, None]
        negative = critic.pairs(queries[:, None, None], (distributed.gather(keys) if union else keys)[other, place])
    return Scores(positive.flatten()[:, None], negative.flatten(0, 1))

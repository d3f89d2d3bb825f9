"""Which pairs are positives and which are negatives: from codes and maps to the rows that objectives take.

Positives are a code and the positions of its own image's map; negatives of image i are the positions of every
other image of the batch, the batches of all processes together when `union` is set. Positives are never among
the negatives.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from dim import distributed
from dim.networks.critics import Critic


class Scores(NamedTuple):
    """Rows for an objective: positive (N, P) and negative (N, K)."""

    positive: Tensor
    negative: Tensor


def contrast(
    critic: Critic,
    y: Tensor,
    maps: Tensor,
    negatives: int | None = None,
    union: bool = False,
    generator: torch.Generator | None = None,
) -> Scores:
    """Scores codes y (N, Y) against maps of the same N images.

    Args:
        negatives: None pairs every code with all positions of all other images: positive (N, L), negative
            (N, (M-1) L) with M images in the union. A number draws so many other images for each positive, at
            its own position, without repetition: positive (N L, 1), negative (N L, K).
        union: take negatives from the batches of all processes (equal in size).
        generator: on the CPU and in the same state in every process; only drawing uses it.
    """
    queries, keys = critic.queries(y), critic.keys(maps)
    if negatives is None:
        start = distributed.rank() * len(y) if union else 0
        return _all_pairs(all_scores(critic, queries, keys, union), start)
    return _drawn_pairs(critic, queries, keys, negatives, union, generator)


def all_scores(critic: Critic, queries: Tensor, keys: Tensor, union: bool) -> Tensor:
    """(N, M, L): this process's N codes against the M images of the union, in the order of ranks.

    Maps stay where they are: every process scores the codes of all against its own maps and sends back the
    scores, which are far smaller than the maps.
    """
    if not union or distributed.size() == 1:
        return critic.scores(queries, keys)
    blocks = critic.scores(distributed.gather(queries), keys)
    received = distributed.exchange(blocks.unflatten(0, (distributed.size(), len(queries))))
    return received.transpose(0, 1).flatten(1, 2)


def _all_pairs(scores: Tensor, start: int) -> Scores:
    """(N, M, L) with image i's own map in column start + i -> (N, L) and (N, (M-1) L), other columns in order."""
    rows, images, _ = scores.shape
    square = scores[:, start : start + rows]
    # Without its first entry, a flattened square matrix has the diagonal at the end of each row of N + 1.
    others = square.flatten(0, 1)[1:].unflatten(0, (rows - 1, rows + 1))[:, :-1]
    negative = others.reshape(rows, rows - 1, -1)
    if images > rows:
        negative = torch.cat([scores[:, :start], negative, scores[:, start + rows :]], 1)
    return Scores(square.diagonal().T, negative.flatten(1))


def _drawn_pairs(
    critic: Critic, queries: Tensor, keys: Tensor, k: int, union: bool, generator: torch.Generator | None
) -> Scores:
    rows, positions = keys.shape[:2]
    images = rows * (distributed.size() if union else 1)
    if k >= images:
        raise ValueError(f"{k} negatives per positive need a batch of more than {k} images, got {images}")
    # A cyclic shift permutes the batch without fixed points; each position has its own shifts, as the authors
    # permute the map at each position on its own.
    order = torch.rand(positions, images - 1, generator=generator)
    shifts = order.argsort(1)[:, :k].to(queries.device) + 1
    image = torch.arange(rows, device=queries.device)
    own = image + (distributed.rank() * rows if union else 0)
    other = (own[:, None, None] + shifts) % images  # (N, L, K)
    if critic.separable:
        # Scoring all pairs costs less than gathering keys.
        scores = all_scores(critic, queries, keys, union)
        positive = scores[image, own].flatten()
        negative = scores.transpose(1, 2).gather(2, other)
    else:
        positive = critic.pairs(queries[:, None], keys).flatten()
        place = torch.arange(positions, device=queries.device)[:, None]
        keys = distributed.gather(keys) if union else keys
        negative = critic.pairs(queries[:, None, None], keys[other, place])
    return Scores(positive[:, None], negative.flatten(0, 1))

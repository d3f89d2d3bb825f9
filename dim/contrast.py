"""Which pairs are positives and which are negatives: from codes and maps to the rows that objectives take.

Positives are a code and the positions of its own image's map; negatives of image i are the positions of every
other image of the batch, the batches of all processes together when `union` is set. Positives are never among
the negatives.
"""

from typing import NamedTuple

import torch
from torch import Tensor

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
        ValueError: if there are too few images for the negatives.
    """
    images = len(y) * (distributed.size() if union else 1)
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
    images = scores.shape[1]
    table = scores.unflatten(0, (rows, -1)).transpose(1, 2)  # (N, M, G, L)
    square = table[:, start : start + rows]
    # Without its first entry, a flattened square matrix has the diagonal at the end of each row of N + 1.
    others = square.flatten(0, 1)[1:].unflatten(0, (rows - 1, rows + 1))[:, :-1]
    negative = others.reshape(rows, rows - 1, *square.shape[2:])
    if images > rows:
        negative = torch.cat([table[:, :start], negative, table[:, start + rows :]], 1)
    positive = square.diagonal().movedim(-1, 0)
    return Scores(positive.flatten(0, 1), negative.transpose(1, 2).flatten(2).flatten(0, 1))


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

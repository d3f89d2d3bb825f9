"""The nearest-neighbour estimator of Kraskov, Stoegbauer and Grassberger (2004), algorithm 1.

scikit-learn's `mutual_info_regression` has it for single features alone, and here both sides have any number.
"""

from typing import Any

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.special import digamma

from dim.errors import UserError
from dim.mine.inputs import as_pairs

TREE_FEATURES = 8
"""Features of both sides up to which a tree finds neighbours sooner than a table of all distances."""
TIES = 1e-10
"""Standard deviations of the noise that parts equal points, which have no k-th neighbour at a distance."""
SEED = 20040623
"""Of that noise: none that pairs are likely to be drawn with, which would then be their own noise."""


def kraskov(x: Any, z: Any, neighbours: int = 3) -> float:
    """I(X; Z) in nats from pairs: psi(k) + psi(n) - mean [psi(n_x + 1) + psi(n_z + 1)].

    n_x and n_z count the points that are nearer on their side than the k-th neighbour in both (maximum norm).
    Sides are scaled to unit variance, which leaves the information as it is. It is an estimator for densities: noise of
    1e-10 parts what is equal, as in scikit-learn, and features of few values (counts, bits, ReLU's zeros) are
    better estimated otherwise.

    Args:
        x, z: arrays or tensors of equal length, (n,) or (n, ...).
        neighbours: k.

    Raises:
        UserError: for unequal lengths, nothing, NaN or infinity, constants, no more pairs than neighbours.
    """
    sides = [side.flatten(1).double().cpu().numpy() for side in as_pairs(x, z, "the estimator's")]
    n = len(sides[0])
    if not 0 < neighbours < n:
        raise UserError(f"kraskov: {neighbours} neighbours among {n} pairs: give more pairs, or at least 1 neighbour")
    noise = np.random.default_rng(SEED)
    sides = [(side - side.mean(0)) / np.maximum(side.std(0), 1e-300) for side in sides]
    sides = [side + TIES * noise.standard_normal(side.shape) for side in sides]
    total = digamma(neighbours) + digamma(n)
    count = _count_in_trees if sum(side.shape[1] for side in sides) <= TREE_FEATURES else _count_in_tables
    return float(total - sum(digamma(within).mean() for within in count(sides, neighbours)))


def _count_in_trees(sides: list[np.ndarray], neighbours: int) -> list[np.ndarray]:
    """n_x + 1 and n_z + 1 of each point."""
    both = np.hstack(sides)
    distance = cKDTree(both).query(both, neighbours + 1, p=np.inf)[0][:, -1]
    # Strictly nearer: the largest distance below that of the k-th neighbour. A point counts itself.
    radius = np.nextafter(distance, 0)
    return [cKDTree(side).query_ball_point(side, radius, p=np.inf, return_length=True) for side in sides]


def _count_in_tables(sides: list[np.ndarray], neighbours: int, chunk: int = 500) -> list[np.ndarray]:
    """The same from all distances, some rows at a time."""
    counts: list[list[np.ndarray]] = [[], []]
    for start in range(0, len(sides[0]), chunk):
        tables = [cdist(side[start : start + chunk], side, "chebyshev") for side in sides]
        radius = np.nextafter(np.partition(np.maximum(*tables), neighbours, axis=1)[:, neighbours, None], 0)
        for found, table in zip(counts, tables, strict=True):
            found.append((table <= radius).sum(1))
    return [np.concatenate(found) for found in counts]

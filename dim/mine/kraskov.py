"""The nearest-neighbour estimator of Kraskov, Stoegbauer and Grassberger (2004), algorithm 1.

scikit-learn's `mutual_info_regression` has it for single features alone, and here both sides have any number.
"""

from typing import Any

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import digamma

from dim.mine.inputs import as_pairs


def kraskov(x: Any, z: Any, neighbours: int = 3) -> float:
    """I(X; Z) in nats from pairs: psi(k) + psi(n) - mean psi(n_x + 1) + psi(n_z + 1).

    n_x and n_z count the points that are nearer on their side than the k-th neighbour in both (maximum norm).
    Sides are scaled to unit variance, which leaves the information as it is.

    Args:
        x, z: arrays or tensors of equal length, (n,) or (n, ...).
        neighbours: k.

    Raises:
        UserError: for unequal lengths, nothing, NaN or infinity, constants.
    """
    sides = [np.asarray(side.flatten(1), dtype=np.float64) for side in as_pairs(x, z, "the estimator's")]
    n = len(sides[0])
    sides = [side / np.maximum(side.std(0), 1e-300) for side in sides]
    distance = cKDTree(np.hstack(sides)).query(np.hstack(sides), neighbours + 1, p=np.inf)[0][:, -1]
    # Strictly nearer: the largest distance below that of the k-th neighbour.
    radius = np.nextafter(distance, 0)
    total = digamma(neighbours) + digamma(n)
    for side in sides:
        within = cKDTree(side).query_ball_point(side, radius, p=np.inf, return_length=True)  # counts itself
        total -= digamma(within).mean()
    return float(total)

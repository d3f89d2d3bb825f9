import numpy as np
import pytest
import torch
from scipy.special import digamma
from sklearn.feature_selection import mutual_info_regression

from dim.errors import UserError
from dim.mine.kraskov import kraskov


def pairs(rho, size, rows, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, size))
    return x, rho * x + np.sqrt(1 - rho**2) * rng.standard_normal((rows, size))


@pytest.mark.parametrize("rho", [0.3, 0.9])
@pytest.mark.parametrize("neighbours", [3, 7])
def test_single_features_are_those_of_scikit_learn(rho, neighbours):
    x, z = pairs(rho, 1, 1000)
    theirs = mutual_info_regression(x, z[:, 0], n_neighbors=neighbours, random_state=0)[0]
    # Theirs adds noise of 1e-10 before counting.
    assert kraskov(x, 5 * z + 3, neighbours) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("size", [3, 10])  # in trees, and in tables
def test_several_features_are_the_definition(size):
    x, z = pairs(0.8, size, 200)
    x, z = x / x.std(0), z / z.std(0)
    distances = [np.abs(side[:, None] - side).max(-1) for side in (x, z)]
    both = np.maximum(*distances)
    np.fill_diagonal(both, np.inf)
    radius = np.sort(both, 1)[:, 3 - 1]
    counts = [(d < radius[:, None]).sum(1) for d in distances]  # n_x + 1, with the point itself
    expected = digamma(3) + digamma(200) - np.mean(digamma(counts[0]) + digamma(counts[1]))
    assert kraskov(x, z) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("transform", ["relu", "bits", "bytes"])
def test_ties_are_parted_as_by_scikit_learn(transform):
    x, z = pairs(0.8, 1, 2000)
    ties = {"relu": lambda v: np.maximum(v, 0), "bits": lambda v: v > 0, "bytes": lambda v: np.rint(20 * v)}[transform]
    x, z = ties(x).astype(float), ties(z).astype(float)
    theirs = mutual_info_regression(x, z[:, 0], random_state=0)[0]
    assert kraskov(x, z) == pytest.approx(theirs, abs=0.03)
    # In tables, too: features that vary too little to be anybody's k-th distance.
    wide = np.hstack([x, 1e-3 * np.random.default_rng(1).standard_normal((len(x), 8))])
    assert np.isfinite(kraskov(wide, z))


def test_gaussians_are_found():
    x, z = pairs(0.7, 2, 5000)
    assert kraskov(x, z) == pytest.approx(-np.log(1 - 0.49), abs=0.05)


def test_tensors_of_any_type_are_taken():
    x, z = (torch.as_tensor(side) for side in pairs(0.7, 1, 200))
    halves = x.bfloat16(), z.bfloat16()
    assert kraskov(*halves) == kraskov(*(side.double().numpy() for side in halves))


def test_bad_input_is_one_line():
    with pytest.raises(UserError, match="constant"):
        kraskov(np.ones((50, 2)), np.random.rand(50, 2))
    with pytest.raises(UserError, match="3 neighbours among 3 pairs"):
        kraskov(np.random.rand(3), np.random.rand(3))

import math

import numpy as np
import pytest

from dim.errors import UserError
from dim.mine import MINE


def gaussians(rho, size, rows, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, size))
    z = rho * x + math.sqrt(1 - rho**2) * rng.standard_normal((rows, size))
    return x.astype(np.float32), z.astype(np.float32), -size / 2 * math.log(1 - rho**2)


@pytest.mark.parametrize("bound", ["dv", "nwj", "jsd", "smile"])
def test_one_dimension_is_found(bound):
    x, z, truth = gaussians(0.8, 1, 12_000)
    found = MINE(bound=bound, epochs=15, widths=(64, 64), learning_rate=3e-3).fit(x, z)
    assert found.estimate_ == pytest.approx(truth, abs=0.1)
    assert len(found.history_) == 20


def test_independence_gives_nearly_nothing_and_bits_are_nats_over_log_two():
    x, z, _ = gaussians(0.0, 2, 6000)
    options = {"epochs": 5, "widths": (32,)}
    nats, bits = (MINE(unit=unit, **options).fit(x, z) for unit in ("nats", "bits"))
    assert abs(nats.estimate_) < 0.05
    assert bits.estimate_ == pytest.approx(nats.estimate_ / math.log(2))
    assert bits.ceiling_ == pytest.approx(math.log2(1200))


def test_the_same_seed_gives_the_same_estimate():
    x, z, _ = gaussians(0.5, 1, 2000)
    a, b, c = (MINE(epochs=2, widths=(16,), seed=seed).fit(x, z).estimate_ for seed in (1, 1, 2))
    assert a == b != c


@pytest.mark.slow
@pytest.mark.parametrize(("size", "rho"), [(1, 0.9), (2, 0.9), (20, 0.5)])
def test_gaussians_on_fresh_pairs(size, rho):
    x, z, truth = gaussians(rho, size, 200_000)
    x_test, z_test, _ = gaussians(rho, size, 100_000, seed=1)
    found = MINE(epochs=20, widths=(256, 256)).fit(x, z, x_test, z_test)
    assert found.estimate_ == pytest.approx(truth, abs=max(0.05 * truth, 0.1))


@pytest.mark.parametrize(
    ("x", "z", "message"),
    [
        (np.ones((100, 2)), np.random.rand(100, 2), "x is constant"),
        (np.random.rand(100, 2), np.full((100, 2), np.nan), "NaN"),
        (np.random.rand(100, 2), np.random.rand(90, 2), "100 rows and z 90"),
        (np.random.rand(10, 2), np.random.rand(10, 2), "too few"),
        (np.empty((0, 2)), np.random.rand(10, 2), "empty"),
    ],
)
def test_bad_input_is_one_line(x, z, message):
    with pytest.raises(UserError, match=message) as error:
        MINE().fit(x, z)
    assert "\n" not in str(error.value)


def test_objectives_that_cannot_serve_are_refused():
    pair = np.random.rand(100, 1), np.random.rand(100, 1)
    with pytest.raises(UserError, match="no objective 'mi'"):
        MINE(bound="mi").fit(*pair)
    with pytest.raises(UserError, match="cannot be used"):
        MINE(bound="tuba").fit(*pair)

import math

import numpy as np
import pytest
import torch

from dim.mine import mixtures


def draws(target, rows=20_000):
    return target.sample(rows, torch.Generator().manual_seed(0))


def test_samples_of_the_grid_cover_it():
    target = mixtures.grid()
    found = mixtures.coverage(draws(target), target)
    assert found["modes"] == 25
    # The radius of a round Gaussian in the plane exceeds 3 sigma with probability e^(-9/2).
    assert found["quality"] == pytest.approx(1 - math.exp(-4.5), abs=0.004)
    # Of counts of n samples in equal shares: (modes - 1) / 2n on average.
    assert found["kl"] == pytest.approx(24 / 40_000, abs=6e-4)


def test_a_collapsed_generator_covers_one_mode():
    target = mixtures.grid()
    found = mixtures.coverage(target.centres[7].expand(1000, 2), target)
    assert found == {"modes": 1, "quality": 1.0, "kl": pytest.approx(math.log(25))}


def test_samples_between_modes_count_for_nothing():
    target = mixtures.grid()
    between = target.centres[:1] + torch.tensor([[1.0, 0.0]])
    found = mixtures.coverage(between.expand(1000, 2), target)
    assert found == {"modes": 0, "quality": 0.0, "kl": pytest.approx(math.log(25))}
    edge = target.centres[3] + torch.tensor([[3.01 * target.sigma, 0.0], [2.99 * target.sigma, 0.0]])
    assert mixtures.coverage(edge, target)["quality"] == 0.5


def test_divergence_and_threshold_follow_their_definitions():
    target = mixtures.grid()
    counts = [600, 300, 92, 8]  # an equal share of 1000 is 40, a fifth of it 8
    samples = torch.cat([target.centres[k].expand(n, 2) for k, n in enumerate(counts)])
    share = np.array(counts, dtype=np.float64) / 1000
    found = mixtures.coverage(samples, target)
    assert found["modes"] == 4
    assert found["kl"] == pytest.approx(float((share * np.log(share * 25)).sum()), rel=1e-9)
    assert mixtures.coverage(samples[:-1], target)["modes"] == 3


def test_the_spiral_is_an_even_band_along_its_curve():
    target = mixtures.spiral(turns=2.0, radius=3.0)
    radius = target.centres.double().norm(dim=1)
    angle = torch.atan2(target.centres[:, 1], target.centres[:, 0]).double()
    turns = radius / 3.0 * 2.0 - angle / (2 * math.pi)
    torch.testing.assert_close(turns, turns.round(), atol=1e-3, rtol=0)
    steps = (target.centres[1:] - target.centres[:-1]).norm(dim=1)
    assert steps.max() / steps.min() < 1.1
    assert steps.max() < target.sigma / 2
    found = mixtures.coverage(draws(target), target)
    assert found["modes"] == target.modes == 25
    # Across the band the distance is that of one Gaussian variable.
    assert found["quality"] == pytest.approx(math.erf(3 / math.sqrt(2)), abs=0.002)


def test_targets_by_name():
    assert mixtures.target("grid").name == "grid"
    assert mixtures.target("spiral").name == "spiral"
    with pytest.raises(ValueError, match="unknown target"):
        mixtures.target("ring")

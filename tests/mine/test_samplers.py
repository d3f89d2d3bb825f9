import math

import numpy as np
import pytest
import torch
from scipy import integrate

from dim.errors import UserError
from dim.mine.samplers import FUNCTIONS, Correlated, Gaussian, Noisy


def covariance(size, seed=0):
    root = torch.randn(size, size + 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.T / size


@pytest.mark.parametrize("rho", [0.0, 0.3, -0.7, 0.99])
@pytest.mark.parametrize("size", [1, 2, 20])
def test_correlated_pairs_are_the_general_form_with_a_diagonal_block(rho, size):
    eye = torch.eye(size)
    joint = torch.cat([torch.cat([eye, rho * eye], 1), torch.cat([rho * eye, eye], 1)])
    assert Gaussian(joint, size).information == pytest.approx(Correlated(rho, size).information, abs=1e-5)
    assert Correlated(rho, size).information == pytest.approx(-size / 2 * math.log(1 - rho**2))


def test_the_general_form_is_the_divergence_of_joint_and_product():
    s = covariance(5)
    product = torch.block_diag(s[:2, :2], s[2:, 2:])
    mean = torch.arange(5.0, dtype=torch.float64)
    joint, apart = (torch.distributions.MultivariateNormal(mean, c) for c in (s, product))
    divergence = torch.distributions.kl_divergence(joint, apart)
    assert Gaussian(s, 2, mean).information == pytest.approx(float(divergence))


def test_draws_have_the_moments():
    s, mean = covariance(5), torch.arange(5.0)
    x, z = Gaussian(s, 2, mean)(200_000, torch.Generator().manual_seed(0))
    assert (x.shape[1], z.shape[1]) == (2, 3)
    both = torch.cat([x, z], 1)
    torch.testing.assert_close(both.mean(0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(torch.cov(both.T).double(), s, atol=0.05, rtol=0.02)
    x, z = Correlated(-0.6, 3)(200_000, torch.Generator().manual_seed(0))
    expected = torch.cat([torch.eye(3), -0.6 * torch.eye(3)], 1)
    torch.testing.assert_close(torch.cov(torch.cat([x, z], 1).T)[:3], expected, atol=0.02, rtol=0)


def test_information_can_be_chosen_and_cubes_keep_it():
    pair = Correlated.of_information(6.0, 20, cubed=True)
    assert pair.information == pytest.approx(6.0)
    plain = Correlated(pair.rho, 20)
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    torch.testing.assert_close(pair(5, generators[0])[1], plain(5, generators[1])[1] ** 3)


def test_what_is_no_covariance_is_refused():
    for one_sided in ([[1.0, 0.9], [0.0, 1.0]], [[1.0, 0.0], [0.9, 1.0]]):
        with pytest.raises(UserError, match="not symmetric"):
            _ = Gaussian(torch.tensor(one_sided), 1).information
    with pytest.raises(UserError, match="positive definite"):
        _ = Gaussian(torch.tensor([[1.0, 2.0], [2.0, 1.0]]), 1).information


@pytest.mark.parametrize("function", list(FUNCTIONS))
@pytest.mark.parametrize("sigma", [0.1, 0.9])
def test_the_truth_under_noise_is_the_integral(function, sigma):
    def f(x):
        return float(FUNCTIONS[function](torch.tensor(x, dtype=torch.float64)))

    def density(y):
        inner = lambda x: math.exp(-0.5 * ((y - f(x)) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi)) / 2  # noqa: E731
        return integrate.quad(inner, -1, 1, epsabs=1e-9, limit=200)[0]

    grid = np.linspace(-1 - 8 * sigma, 1 + 8 * sigma, 401)
    p = np.array([density(y) for y in grid])
    entropy = integrate.simpson(-p * np.log(np.maximum(p, 1e-300)), x=grid)
    truth = entropy - 0.5 * math.log(2 * math.pi * math.e * sigma**2)
    assert Noisy(function, sigma, 1).information == pytest.approx(truth, abs=1e-5)
    assert Noisy(function, sigma, 2).information == pytest.approx(2 * truth, abs=2e-5)


def test_the_identity_under_noise_has_a_closed_form():
    # h(U + sigma eps) tends to log 2 as sigma tends to 0, up to the blurred edges.
    for sigma in (0.03, 0.01):
        limit = math.log(2) - 0.5 * math.log(2 * math.pi * math.e * sigma**2)
        assert Noisy("x", sigma, 1).information == pytest.approx(limit, abs=1.0 * sigma)


def test_noisy_draws_are_the_function_plus_noise():
    x, y = Noisy("x^3", 0.2)(100_000, torch.Generator().manual_seed(0))
    assert x.shape == y.shape == (100_000, 2)
    assert float(x.abs().max()) <= 1
    assert float(x.var()) == pytest.approx(1 / 3, rel=0.02)
    assert float((y - x**3).std()) == pytest.approx(0.2, rel=0.02)

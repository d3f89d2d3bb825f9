import pytest
import torch

from dim.devices import exact_products
from dim.evaluation.newton import (
    Rows,
    curvature,
    line_search,
    minimise,
    newton_direction,
    slope,
    squared_hinge,
)

N, D, K = 60, 7, 3


@pytest.fixture
def rows():
    return Rows(torch.randn(N, D))


@pytest.fixture
def extended(rows):
    """The rows with the constant feature, in float64."""
    return torch.cat([rows.features.double(), torch.ones(N, 1, dtype=torch.float64)], 1)


def test_the_loss_is_the_square_of_the_hinge_and_has_its_derivatives():
    z = torch.tensor([-2.0, 0.0, 0.5, 0.999, 1.001, 3.0], dtype=torch.float64, requires_grad=True)
    assert squared_hinge(z.detach()).tolist() == [max(0.0, 1 - each) ** 2 for each in z.tolist()]
    (first,) = torch.autograd.grad((1 - z).clamp(min=0).square().sum(), z, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), z)
    torch.testing.assert_close(slope(z.detach()), first.detach())
    torch.testing.assert_close(curvature(z.detach()), second)


def test_products_are_those_of_rows_with_a_constant_feature(rows, extended, monkeypatch):
    monkeypatch.setattr("dim.evaluation.newton.CHUNK", 16)
    weights, coefficients = torch.randn(K, D + 1, dtype=torch.float64), torch.randn(K, N)
    torch.testing.assert_close(rows.values(weights).double(), weights @ extended.T, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rows.combine(coefficients), coefficients.double() @ extended, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(rows.moments(), extended.T @ extended, atol=1e-4, rtol=1e-5)
    diagonal = Rows(rows.features, max_moments=D - 1).moments()
    torch.testing.assert_close(diagonal, extended.square().sum(0), atol=1e-4, rtol=1e-5)


def test_the_factor_inverts(rows, extended):
    right = torch.randn(K, D + 1, dtype=torch.float64)
    matrix = torch.eye(D + 1, dtype=torch.float64) + 0.3 * extended.T @ extended
    torch.testing.assert_close(
        rows.factor(0.3).solve(right), torch.linalg.solve(matrix, right.T).T, atol=1e-6, rtol=1e-4
    )


@pytest.mark.parametrize("max_moments", [8192, D - 1])
def test_conjugate_gradients_solve_the_newton_system(rows, extended, max_moments):
    curvature = torch.rand(K, N, dtype=torch.float64)
    matrices = torch.eye(D + 1, dtype=torch.float64) + torch.einsum("kn,nd,ne->kde", curvature, extended, extended)
    gradient = torch.randn(K, D + 1, dtype=torch.float64)
    factor = Rows(rows.features, max_moments).factor(0.5)
    direction, count = newton_direction(
        lambda v: torch.einsum("kde,ke->kd", matrices, v), gradient, factor, torch.full((K, 1), 1e-9)
    )
    torch.testing.assert_close(direction, -torch.linalg.solve(matrices, gradient))
    assert 1 < count <= 3 * (D + 1)


def test_the_line_search_finds_the_minimum_of_convex_functions():
    centres = torch.tensor([[0.01], [1.0], [30.0]], dtype=torch.float64)

    def slopes(t):  # of (t - c)^4 + (t - c)^2
        away = t - centres
        return 4 * away**3 + 2 * away, 12 * away**2 + 2

    torch.testing.assert_close(line_search(slopes, 3, centres), centres, atol=1e-4, rtol=1e-4)


def test_the_line_search_stays_at_a_minimum_whose_slope_is_rounding():
    at = []

    def slopes(t):  # of (t - 1)^2 / 2, off by less than float64 tells
        at.append(t)
        return t - 1 - 1e-18, torch.ones_like(t)

    assert line_search(slopes, 1, torch.ones(1, dtype=torch.float64)) == 1
    assert all(t == 1 for t in at)


def test_the_minimum_has_no_gradient_and_leaves_rows_of_no_cost_out(rows, extended):
    labels = torch.randint(K, (N,))
    signs = torch.where(labels == torch.arange(K)[:, None], 1.0, -1.0)
    cost = torch.full((N,), 0.5)
    cost[: N // 3] = 0
    with exact_products():
        found = minimise(rows, signs, cost, torch.zeros(K, D + 1, dtype=torch.float64), tolerance=1e-6)
    weights = found.weights.clone().requires_grad_()
    margins = signs.double() * (weights @ extended.T)
    objective = 0.5 * weights.square().sum(1) + (squared_hinge(margins) * cost).sum(1)
    (gradient,) = torch.autograd.grad(objective.sum(), weights)
    torch.testing.assert_close(found.objective, objective.detach(), rtol=1e-5, atol=1e-6)
    assert (0.5 * gradient.square().sum(1) <= 1e-5 * objective).all()

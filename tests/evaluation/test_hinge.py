import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from dim.errors import UserError
from dim.evaluation.hinge import margin_step, minimise_hinge
from dim.evaluation.newton import Rows


def test_the_step_in_margins_is_the_minimum_of_its_definition():
    for v, threshold in ((-2.0, 0.5), (0.9, 0.5), (0.4, 0.5), (1.7, 0.5), (0.99, 0.0)):
        z, u = margin_step(torch.tensor([v]), torch.tensor([threshold]))
        best = minimize_scalar(lambda z, v=v, c=threshold: c * max(0.0, 1 - z) + 0.5 * (z - v) ** 2, (-5, 5), tol=1e-10)
        np.testing.assert_allclose(float(z), best.x, atol=1e-4)
        np.testing.assert_allclose(float(u), v - float(z), atol=1e-6)
        assert -threshold <= float(u) <= 0


def test_two_separable_points_have_the_classifier_of_largest_margin():
    # With a large cost, the least |w|^2 + b^2 with y (x w + b) >= 1 at x = -1 and x = 3.
    rows, signs = Rows(torch.tensor([[-1.0], [3.0]])), torch.tensor([[-1.0, 1.0]])
    start = torch.zeros(1, 2, dtype=torch.float64)
    found = minimise_hinge(rows, signs, torch.full((2,), 100.0), start, tolerance=1e-6)
    # Both constraints hold with equality: -w + b = -1 and 3 w + b = 1.
    torch.testing.assert_close(found.weights, torch.tensor([[0.5, -0.5]], dtype=torch.float64), atol=1e-3, rtol=0)
    assert abs(float(found.gap)) <= 1e-6 * float(found.objective)  # below float32, its sign is rounding


def test_it_gives_what_it_has_when_iterations_run_out():
    rows, signs = Rows(torch.randn(50, 4)), torch.randn(2, 50).sign()
    start = torch.zeros(2, 5, dtype=torch.float64)
    found = minimise_hinge(rows, signs, torch.ones(50), start, tolerance=0.0, max_iterations=10)
    assert found.iterations == 10
    assert (found.gap > 0).all()


def test_more_features_than_can_be_factored_are_refused():
    rows = Rows(torch.randn(20, 6), max_moments=5)
    with pytest.raises(UserError, match="found 6: leave this layer out"):
        minimise_hinge(rows, torch.ones(1, 20), torch.ones(20), torch.zeros(1, 7, dtype=torch.float64), 1e-3)

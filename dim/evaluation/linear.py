"""The linear probe: converged multinomial logistic regression on frozen features."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dim.devices import exact_products
from dim.errors import UserError
from dim.evaluation.classifier import Fit, Problem, choose_cost, predict
from dim.evaluation.features import Standardiser, check_splits, percent
from dim.evaluation.newton import Rows, line_search, newton_direction
from dim.progress import Report, silent

TOLERANCE = 1e-5


def linear(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    costs: Sequence[float] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
    standardise: bool = True,
    validation: float = 0.1,
    seed: int = 0,
    progress: Report = silent,
) -> dict[str, Any]:
    """Multinomial logistic regression: 1/2 (|W|^2 + |b|^2) + C sum of cross-entropies, converged.

    With several `costs`, C is the one best on a share `validation` of the training rows; see `choose_cost`.

    Args:
        train_features, test_features: (N, D) float32 on one device; standardising makes one copy of each.
        train_labels, test_labels: (N,) int64 from 0 upwards.

    Returns:
        Accuracies in percent; C and the validation accuracies; `objective`; `relative_gap`, a certified bound on
        its distance from the minimum, relative to it; `cross_entropy` on the test rows in nats.

    Raises:
        UserError: wrong types or shapes, costs that are not positive, a test label unknown to the training rows.
    """
    check_splits("linear", train_features, train_labels, test_features, test_labels)
    if not costs or min(costs) <= 0:
        raise UserError(f"linear: costs must be positive numbers, found {list(costs)}")
    if int(test_labels.max()) > int(train_labels.max()):
        raise UserError(f"linear: test label {int(test_labels.max())} is larger than every training label")
    if standardise:
        standardiser = Standardiser.fit(train_features)
        train_features, test_features = standardiser(train_features), standardiser(test_features)
    test = Rows(test_features)
    with exact_products():
        problem = Softmax(train_features, train_labels)
        cost, tried, start = choose_cost(problem, costs, validation, seed, "linear", progress)
        fit = problem.fit(cost, start)
        return {
            "accuracy": percent(predict(test, fit.weights), test_labels),
            "train_accuracy": percent(predict(problem.rows, fit.weights), train_labels),
            "cross_entropy": functional.cross_entropy(test.values(fit.weights).T, test_labels).item(),
            "standardised": standardise,
            "cost": cost,
            "validation_accuracies": tried,
            "objective": fit.objective,
            "relative_gap": fit.gap,
            "converged": fit.gap <= TOLERANCE,
            "relative_gradient": fit.relative_gradient,
            "iterations": fit.iterations,
            "products": fit.products,
        }


class Softmax(Problem):
    """All classes in one smooth, 1-strongly convex objective, minimised by Newton's method."""

    def fit(self, cost: float, start: Tensor, kept: Tensor | None = None) -> Fit:
        rows, costs, limit = self.rows, self.costs(cost, kept), 100
        targets = functional.one_hot(self.labels, self.classes).T
        origin = rows.combine((1 / self.classes - targets).mul_(costs)).norm()
        weights, before, factor = start, torch.inf, None
        iterations, products = 0, 1
        while True:
            values = rows.values(weights)
            probabilities = values.softmax(0)
            gradient = weights + rows.combine((probabilities - targets).mul_(costs))
            losses = functional.cross_entropy(values.T, self.labels, reduction="none")
            objective = (0.5 * total(weights, weights) + (losses * costs).sum(dtype=torch.float64)).item()
            # With a single class the objective is 0, its minimum, at once.
            gap = (0.5 * total(gradient, gradient)).item() / objective if objective else 0.0
            products += 2
            # Where a whole step gains less than this, only rounding is left.
            if gap <= TOLERANCE or objective > before * (1 - 1e-10) or iterations == limit:
                break
            before, iterations = objective, iterations + 1
            kappa = (probabilities * (1 - probabilities) * costs).mean(dtype=torch.float64).clamp_(min=1e-12).item()
            if factor is None or not 0.5 < factor.kappa / kappa < 2:
                factor = rows.factor(kappa)
            forcing = (gradient.norm() / origin).sqrt().clamp(max=0.1)
            hessian = partial(times_softmax_hessian, rows, probabilities, costs)
            direction, count = newton_direction(hessian, gradient, factor, forcing, total)
            change = rows.values(direction)
            products += 2 * count + 1
            slopes = partial(softmax_slopes, weights, direction, values, change, targets, costs)
            weights = weights + line_search(slopes, 1, weights) * direction
        relative = (gradient.norm() / origin).item() if origin else 0.0
        return Fit(weights, objective, gap, relative, iterations, products)


def total(a: Tensor, b: Tensor) -> Tensor:
    """Scalar product of whole matrices in float64, (1, 1)."""
    return (a * b).sum(dtype=torch.float64).view(1, 1)


def softmax_curvature(probabilities: Tensor, change: Tensor) -> Tensor:
    """(diag(p) - p p^T) u for every row: probabilities p and change u are (K, N)."""
    weighted = probabilities * change
    return weighted - probabilities * weighted.sum(0)


def times_softmax_hessian(rows: Rows, probabilities: Tensor, costs: Tensor, v: Tensor) -> Tensor:
    """H v for v (K, D + 1)."""
    return v + rows.combine(softmax_curvature(probabilities, rows.values(v)).mul_(costs))


def softmax_slopes(
    weights: Tensor,
    direction: Tensor,
    values: Tensor,
    change: Tensor,
    targets: Tensor,
    costs: Tensor,
    t: Tensor,
) -> tuple[Tensor, Tensor]:
    """First and second derivative (1, 1) of the objective at weights + t direction."""
    probabilities = (values + t.to(values) * change).softmax(0)
    quadratic, weighted = total(direction, direction), change * costs
    slope = total(weights, direction) + t * quadratic + total(weighted, probabilities - targets)
    return slope, quadratic + total(weighted, softmax_curvature(probabilities, change))

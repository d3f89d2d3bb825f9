"""Linear support vector machines on frozen features (Table 4), converged and with the proof of it."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from dim.errors import UserError
from dim.evaluation.features import Standardiser, check_features, percent, split
from dim.evaluation.hinge import minimise_hinge
from dim.evaluation.margins import SquaredHinge
from dim.evaluation.newton import Rows, exact_products, minimise
from dim.evaluation.progress import Report, silent

Loss = Literal["squared_hinge", "hinge"]
Solver = Literal["newton", "sklearn"]
TOLERANCE = {"squared_hinge": 1e-5, "hinge": 1e-3}


@dataclass(frozen=True)
class Fit:
    """Weights (K, D + 1) float64, the bias last; each class's objective (K,) and relative gap (K,).

    The gap bounds how far the objective lies above its minimum, relative to the objective.
    """

    weights: Tensor
    objective: Tensor
    gap: Tensor
    relative_gradient: Tensor | None
    iterations: int
    products: int


def svm(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    loss: Loss = "squared_hinge",
    costs: Sequence[float] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
    standardise: bool = True,
    runs: int = 5,
    run_fraction: float = 0.9,
    validation: float = 0.1,
    solver: Solver = "newton",
    seed: int = 0,
    progress: Report | None = None,
) -> dict[str, Any]:
    """One-vs-rest linear SVMs: 1/2 (|w|^2 + b^2) + C sum l(y (w x + b)), one for each class.

    With several `costs`, C is the one best on a share `validation` of the training rows, never on test rows; they
    are tried from small to large, each starting from the one before, until two in a row are worse than the best.

    The paper reports "five support vector machines" without saying what differs between them. The problem is
    convex: once converged, five solvers or five seeds give one answer, and the published deviations can only
    come from unconverged solvers. What can vary is the data, so here each run leaves a different random
    1 - `run_fraction` of the training rows out (a bootstrap would leave 37 % out and cost accuracy). The
    deviation over runs says how much the accuracy depends on single training rows; as the subsets overlap, it
    is no confidence interval. `accuracy` is the fit on all training rows.

    Args:
        train_features, test_features: (N, D) float32 on one device; standardising makes one copy of each.
        train_labels, test_labels: (N,) int64 from 0 upwards.
        loss: "squared_hinge" (liblinear's default) or "hinge" (the paper's words).
        standardise: by the training rows' mean and deviation; False takes the features as they are.
        runs: 0 leaves the runs out.
        solver: "newton", or "sklearn" for scikit-learn's LinearSVC on the same (squared) objective.

    Returns:
        Accuracies in percent; C and the validation accuracies; `objective` summed over classes; `relative_gap`,
        the largest of all fits' and classes' certified distances of the objective from its minimum, relative
        to the objective; `converged`.

    Raises:
        UserError: wrong types or shapes, costs that are not positive, hinge with solver "sklearn".
    """
    check_features("svm, training", train_features, train_labels)
    check_features("svm, test", test_features, test_labels)
    if not costs or min(costs) <= 0:
        raise UserError(f"svm: costs must be positive numbers, found {list(costs)}")
    if solver == "sklearn" and loss == "hinge":
        raise UserError("svm: solver 'sklearn' is for loss 'squared_hinge'; use solver 'newton' for the hinge")
    report = progress or silent
    if standardise:
        standardiser = Standardiser.fit(train_features)
        train_features, test_features = standardiser(train_features), standardiser(test_features)
    with exact_products():
        problem = Problem(train_features, train_labels, loss, solver)
        test = Rows(test_features)
        cost, tried, start = choose_cost(problem, sorted(costs), validation, seed, report)
        full = problem.fit(cost, start)
        accuracies: list[float] = []
        fits = [full]
        for run in range(runs):
            report("svm runs", run / runs)
            kept, _ = split(len(train_labels), 1 - run_fraction, seed + 1 + run)
            # The solution does not depend on the start; the full fit is a near one.
            fits.append(problem.fit(cost, full.weights, kept))
            accuracies.append(percent(predict(test, fits[-1].weights), test_labels))
            report("svm runs", (run + 1) / runs)
        gap = max(fit.gap.max().item() for fit in fits)
        result: dict[str, Any] = {
            "accuracy": percent(predict(test, full.weights), test_labels),
            "train_accuracy": percent(predict(problem.rows, full.weights), train_labels),
            "loss": loss,
            "solver": solver,
            "standardised": standardise,
            "cost": cost,
            "validation_accuracies": tried,
            "objective": full.objective.sum().item(),
            "relative_gap": gap,
            "converged": gap <= TOLERANCE[loss],
            "iterations": full.iterations,
            "products": full.products,
        }
    if full.relative_gradient is not None:
        result["relative_gradient"] = full.relative_gradient.max().item()
    if runs:
        result |= {"accuracies": accuracies, "accuracy_mean": statistics.fmean(accuracies)}
        result |= {"accuracy_std": statistics.stdev(accuracies) if runs > 1 else 0.0}
        result |= {"run_fraction": run_fraction}
    return result


def choose_cost(
    problem: "Problem", costs: Sequence[float], validation: float, seed: int, report: Report
) -> tuple[float, list[dict[str, float]], Tensor]:
    """The cost best on held-out training rows, what each cost gave there, and weights to start from."""
    zero = problem.zero_weights()
    if len(costs) == 1:
        return costs[0], [], zero
    kept, held = split(len(problem.labels), validation, seed)
    held_rows, held_labels = Rows(problem.rows.features[held]), problem.labels[held]
    tried: list[dict[str, float]] = []
    start, best = zero, zero
    for index, cost in enumerate(costs):
        report("svm cost", index / len(costs))
        start = problem.fit(cost, start, kept).weights
        accuracy = percent(predict(held_rows, start), held_labels)
        if not tried or accuracy > max(entry["accuracy"] for entry in tried):
            best = start
        tried.append({"cost": cost, "accuracy": accuracy})
        top = max(range(len(tried)), key=lambda i: tried[i]["accuracy"])
        if index - top == 2:
            break
    report("svm cost", 1.0)
    return tried[top]["cost"], tried, best


def predict(rows: Rows, weights: Tensor) -> Tensor:
    """The class with the largest decision value, (N,)."""
    return rows.values(weights).argmax(0)


class Problem:
    """Rows, labels and loss of all fits of one evaluation; subsets are rows of cost zero, not copies."""

    def __init__(self, features: Tensor, labels: Tensor, loss: Loss, solver: Solver) -> None:
        self.rows = Rows(features)
        self.labels = labels
        self.loss = loss
        self.solver = solver
        self.classes = int(labels.max()) + 1
        self.signs = functional.one_hot(labels, self.classes).T.to(features.dtype).mul(2).sub(1).contiguous()

    def zero_weights(self) -> Tensor:
        """(K, D + 1) float64 zeros."""
        features = self.rows.features
        return torch.zeros(self.classes, features.shape[1] + 1, dtype=torch.float64, device=features.device)

    def fit(self, cost: float, start: Tensor, kept: Tensor | None = None) -> Fit:
        """All classes on the kept rows (default: all), starting from the weights `start`."""
        costs = torch.full((len(self.labels),), cost, device=self.rows.device)
        if kept is not None:
            costs.zero_()[kept.to(self.rows.device)] = cost
        if self.loss == "hinge":
            hinge = minimise_hinge(self.rows, self.signs, costs, start, TOLERANCE["hinge"])
            gap = hinge.gap / hinge.objective
            return Fit(hinge.weights, hinge.objective, gap, None, hinge.iterations, hinge.products)
        iterations = 100
        if self.solver == "sklearn":
            # No step of our own: only the objective and the gap at scikit-learn's weights.
            start, iterations = self.fit_sklearn(cost, kept), 0
        squared = minimise(self.rows, self.signs, costs, SquaredHinge(), start, TOLERANCE["squared_hinge"], iterations)
        return Fit(
            squared.weights,
            squared.objective,
            squared.gap / squared.objective,
            squared.relative_gradient,
            squared.iterations,
            squared.products,
        )

    def fit_sklearn(self, cost: float, kept: Tensor | None) -> Tensor:
        """Weights by scikit-learn's LinearSVC (liblinear), which needs float64 copies of the rows."""
        from sklearn.svm import LinearSVC

        features, labels = self.rows.features, self.labels
        if kept is not None:
            features, labels = features[kept], labels[kept]
        machine = LinearSVC(C=cost, dual=False, random_state=0)
        machine.fit(features.cpu().numpy(), labels.cpu().numpy())
        fitted = torch.cat([torch.tensor(machine.coef_), torch.tensor(machine.intercept_)[:, None]], dim=1)
        if len(machine.classes_) == 2:
            fitted = torch.cat([-fitted, fitted])
        weights = self.zero_weights()
        weights[machine.classes_] = fitted.to(weights)
        return weights

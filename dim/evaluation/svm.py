"""Linear support vector machines on frozen features (Table 4), converged and with the proof of it."""

import statistics
from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional

from dim.devices import exact_products
from dim.errors import UserError, one_of
from dim.evaluation.classifier import Fit, Problem, choose_cost, predict
from dim.evaluation.features import Standardiser, check_splits, percent, split
from dim.evaluation.hinge import minimise_hinge
from dim.evaluation.newton import Rows, minimise
from dim.progress import Report, silent

Loss = Literal["squared_hinge", "hinge"]
TOLERANCE = {"squared_hinge": 1e-5, "hinge": 1e-3}
RUNS = 5
"""Published for table 4."""


def svm(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    loss: Loss = "squared_hinge",
    costs: Sequence[float] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
    standardise: bool = True,
    runs: int = RUNS,
    run_fraction: float = 0.9,
    validation: float = 0.1,
    seed: int = 0,
    progress: Report = silent,
) -> dict[str, Any]:
    """One-vs-rest linear SVMs: 1/2 (|w|^2 + b^2) + C sum l(y (w x + b)), one for each class.

    With several `costs`, C is the one best on a share `validation` of the training rows, never on test rows; see
    `choose_cost`.

    The paper reports "five support vector machines" without saying what differs between them. The problem is
    convex: once converged, five solvers or five seeds give one answer. What can vary is the data, so here each
    run leaves a different random 1 - `run_fraction` of the training rows out (a bootstrap would leave 37 % out
    and cost accuracy). The deviation over runs says how much the accuracy depends on single training rows; as
    the subsets overlap, it is no confidence interval. `accuracy` is the runs' mean, `accuracy_all_rows` the fit
    on all training rows. On features that do not part a class from all others, as y, the plain hinge was less
    accurate and less stable than the squared one (docs/evaluate.md).

    Args:
        train_features, test_features: (N, D) float32 on one device; standardising makes one copy of each.
        train_labels, test_labels: (N,) int64 from 0 upwards.
        loss: "squared_hinge" (liblinear's default) or "hinge" (the paper's words).
        standardise: by the training rows' mean and deviation; False takes the features as they are.
        runs: 0 leaves the runs out.

    Returns:
        Accuracies in percent; C and the validation accuracies; `objective` summed over classes; `relative_gap`,
        the largest of all fits' and classes' certified distances of the objective from its minimum, relative
        to the objective; `converged`.

    Raises:
        UserError: wrong types or shapes, costs that are not positive.
    """
    check_splits("svm", train_features, train_labels, test_features, test_labels)
    one_of(TOLERANCE, **{"svm: loss": loss})
    if not costs or min(costs) <= 0:
        raise UserError(f"svm: costs must be positive numbers, found {list(costs)}")
    if standardise:
        standardiser = Standardiser.fit(train_features)
        train_features, test_features = standardiser(train_features), standardiser(test_features)
    test = Rows(test_features)
    with exact_products():
        problem = Machines(train_features, train_labels, loss)
        cost, tried, start = choose_cost(problem, costs, validation, seed, "svm", progress)
        full = problem.fit(cost, start)
        fits, accuracies = [full], []
        for run in range(runs):
            kept, _ = split(len(train_labels), 1 - run_fraction, seed * runs + 1 + run)
            # The minimum does not depend on the start; the fit on all rows is a near one.
            fits.append(problem.fit(cost, full.weights, kept))
            accuracies.append(percent(predict(test, fits[-1].weights), test_labels))
            progress("svm: runs", (run + 1) / runs)
        gap = max(fit.gap for fit in fits)
        result: dict[str, Any] = {
            "accuracy": percent(predict(test, full.weights), test_labels),
            "train_accuracy": percent(predict(problem.rows, full.weights), train_labels),
            "loss": loss,
            "standardised": standardise,
            "cost": cost,
            "validation_accuracies": tried,
            "objective": full.objective,
            "relative_gap": gap,
            "converged": gap <= TOLERANCE[loss],
            "relative_gradient": full.relative_gradient,
            "iterations": full.iterations,
            "products": full.products,
        }
    if runs:
        result["run_fraction"] = run_fraction
        result["accuracies"] = accuracies
        result["accuracy_all_rows"] = result["accuracy"]
        result["accuracy"] = statistics.fmean(accuracies)
        result["accuracy_std"] = statistics.stdev(accuracies) if runs > 1 else 0.0
    return result


class Machines(Problem):
    """One-vs-rest machines with one of the losses."""

    def __init__(self, features: Tensor, labels: Tensor, loss: Loss) -> None:
        super().__init__(features, labels)
        self.loss = loss
        self.signs = functional.one_hot(labels, self.classes).T.to(features.dtype).mul(2).sub(1).contiguous()

    def fit(self, cost: float, start: Tensor, kept: Tensor | None = None) -> Fit:
        costs = self.costs(cost, kept)
        minimised = minimise_hinge if self.loss == "hinge" else minimise
        found = minimised(self.rows, self.signs, costs, start, TOLERANCE[self.loss])
        relative = found.relative_gradient
        return Fit(
            found.weights,
            found.objective.sum().item(),
            (found.gap / found.objective).max().item(),
            None if relative is None else relative.max().item(),
            found.iterations,
            found.products,
        )

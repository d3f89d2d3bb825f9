"""What the linear classifiers share: one set of rows for all fits, and the choice of their cost."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dim.evaluation.features import percent, split
from dim.evaluation.newton import Rows
from dim.progress import Report


@dataclass(frozen=True)
class Fit:
    """Weights (K, D + 1) float64, the bias last, and how far the minimisation came.

    Attributes:
        objective: summed over classes.
        gap: bound on how far the objective (of the worst class) lies above its minimum, relative to it.
        relative_gradient: the gradient's norm over its norm at zero weights (of the worst class); None where
            the objective has no gradient.
        iterations: steps.
        products: products of all rows with all classes' weights or coefficients.
    """

    weights: Tensor
    objective: float
    gap: float
    relative_gradient: float | None
    iterations: int
    products: int


class Problem(ABC):
    """Rows (N, D) and labels (N,) of all fits of one evaluation; subsets are rows of cost zero, not copies."""

    def __init__(self, features: Tensor, labels: Tensor) -> None:
        self.rows = Rows(features)
        self.labels = labels
        self.classes = int(labels.max()) + 1

    def zero_weights(self) -> Tensor:
        """(K, D + 1) float64 zeros."""
        features = self.rows.features
        return torch.zeros(self.classes, features.shape[1] + 1, dtype=torch.float64, device=features.device)

    def costs(self, cost: float, kept: Tensor | None) -> Tensor:
        """(N,) float32: `cost` for the rows that are kept (default: all), 0 for the others."""
        costs = torch.full((len(self.labels),), cost, device=self.rows.device)
        if kept is not None:
            costs.zero_()[kept.to(costs.device)] = cost
        return costs

    @abstractmethod
    def fit(self, cost: float, start: Tensor, kept: Tensor | None = None) -> Fit:
        """Fits on the kept rows (default: all), starting from the weights `start`."""


def predict(rows: Rows, weights: Tensor) -> Tensor:
    """The class with the largest decision value, (N,)."""
    return rows.values(weights).argmax(0)


def choose_cost(
    problem: Problem, costs: Sequence[float], validation: float, seed: int, name: str, report: Report
) -> tuple[float, list[dict[str, float]], Tensor]:
    """The cost best on a share `validation` of the training rows, held out.

    Costs are tried from small to large, each fit starting from the one before, until two in a row are worse
    than the best. A single cost is taken as it is.

    Returns:
        The cost, the accuracy on the held-out rows of each cost tried (percent), and weights to start from.
    """
    best = start = problem.zero_weights()
    if len(costs) == 1:
        return costs[0], [], start
    kept, held = split(len(problem.labels), validation, seed)
    held = held.to(problem.labels.device)
    held_rows, held_labels = Rows(problem.rows.features[held]), problem.labels[held]
    tried: list[dict[str, float]] = []
    top = 0
    for index, cost in enumerate(sorted(costs)):
        start = problem.fit(cost, start, kept).weights
        tried.append({"cost": cost, "accuracy": percent(predict(held_rows, start), held_labels)})
        if index == 0 or tried[index]["accuracy"] > tried[top]["accuracy"]:
            top, best = index, start
        report(f"{name}: choosing C", (index + 1) / len(costs))
        if index == top + 2:
            break
    report(f"{name}: choosing C", 1.0)
    return tried[top]["cost"], tried, best

"""Newton's method for many linear classifiers on the same rows, all classes at once.

For each class k, with signs y in {-1, +1} and a constant feature x_0 = 1 whose weight is regularised too:

    minimise over w   1/2 |w|^2 + sum_i cost_i max(0, 1 - y_ik x_i . w)^2

Every product with the rows is one matrix product for all classes. Rows and products are float32, sums over
rows and everything of the size of the weights are float64. Conjugate gradients solve the Newton systems,
preconditioned by the factor of the rows' second moments: a class's Hessian is the second moment of its
violating rows, which all rows resemble. The moments are counted once and serve every class, cost and subset.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

MAX_MOMENTS = 8192
"""Features up to which the D x D moments are factored."""
CHUNK = 8192  # rows per float32 product: short enough sums, long enough for the matrix product


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Row-wise scalar products, accumulated in float64, (K, 1)."""
    return (a * b).sum(1, keepdim=True, dtype=torch.float64)


def squared_hinge(z: Tensor) -> Tensor:
    """max(0, 1 - z)^2 of margins z, liblinear's L2 loss."""
    return (1 - z).clamp_(min=0).square_()


def slope(z: Tensor) -> Tensor:
    """Its derivative."""
    return (1 - z).clamp_(min=0).mul_(-2)


def curvature(z: Tensor) -> Tensor:
    """Its second derivative, a generalised one at the kink of the first."""
    return (z < 1).to(z.dtype).mul_(2)


class Rows:
    """(N, D) float32 rows with an implicit constant feature behind the last; no copy is made.

    Weights are (K, D + 1) float64, values (K, N) float32: class-major, because a product with the short side
    first runs many times faster than its transpose.
    """

    def __init__(self, features: Tensor, max_moments: int = MAX_MOMENTS) -> None:
        self.features = features
        self.device = features.device
        # Above `max_moments` features the D x D factor costs more than it saves: the diagonal preconditions.
        self.full = features.shape[1] <= max_moments
        self._moments: Tensor | None = None

    def values(self, weights: Tensor) -> Tensor:
        """Decision values (K, N) of weights (K, D + 1)."""
        short = weights.float()
        return torch.addmm(short[:, -1:], short[:, :-1], self.features.T)

    def combine(self, coefficients: Tensor) -> Tensor:
        """Sums (K, D + 1) of the rows times coefficients (K, N)."""
        total = torch.zeros(len(coefficients), self.features.shape[1] + 1, dtype=torch.float64, device=self.device)
        for part, rows in zip(coefficients.split(CHUNK, dim=1), self.features.split(CHUNK), strict=True):
            total[:, :-1] += part @ rows
            total[:, -1] += part.sum(1, dtype=torch.float64)
        return total

    def moments(self) -> Tensor:
        """Sum of x x^T with the constant feature, (D + 1, D + 1) float64, or its diagonal (D + 1,)."""
        if self._moments is None:
            rows, size = self.features.shape
            shape = (size + 1, size + 1) if self.full else (size + 1,)
            total = torch.zeros(shape, dtype=torch.float64, device=self.device)
            for part in self.features.split(CHUNK):
                if self.full:
                    total[:-1, :-1] += part.T @ part
                    total[-1, :-1] += part.sum(0, dtype=torch.float64)
                else:
                    total[:-1] += part.square().sum(0, dtype=torch.float64)
            if self.full:
                total[:-1, -1] = total[-1, :-1]
            total[(-1,) * total.ndim] = rows
            self._moments = total
        return self._moments

    def factor(self, kappa: float) -> "Factor":
        """The inverse of I / kappa + X^T X, approximately."""
        return Factor(self.moments(), kappa)


class Factor:
    """The inverse of I / kappa + X^T X, from one Cholesky factor (or the diagonal) of the rows' moments."""

    def __init__(self, moments: Tensor, kappa: float) -> None:
        self.kappa = kappa
        self.diagonal = moments.ndim == 1
        if self.diagonal:
            self.factor = moments + 1 / kappa
        else:
            shifted = moments.clone()
            # float32 rounding in the moments may leave eigenvalues slightly below zero.
            rounding = 1e-7 * moments.diagonal().mean().item() * len(moments) ** 0.5
            shifted.diagonal().add_(max(1 / kappa, rounding))
            self.factor = torch.linalg.cholesky(shifted)

    def solve(self, right: Tensor) -> Tensor:
        """(I + kappa X^T X)^-1 applied to (K, D + 1) right-hand sides."""
        solution = right / self.factor if self.diagonal else torch.cholesky_solve(right.T, self.factor).T
        return solution / self.kappa


@dataclass(frozen=True)
class Solution:
    """Weights (K, D + 1) and, for every class, where the minimisation stopped.

    Attributes:
        objective: (K,) float64, at the weights.
        gap: (K,) a bound on how far the objective lies above its minimum.
        iterations: steps of the slowest class.
        products: products of the rows with all remaining classes at once.
        relative_gradient: (K,) the gradient's norm over its norm at zero weights; None where there is no gradient.
    """

    weights: Tensor
    objective: Tensor
    gap: Tensor
    iterations: int
    products: int
    relative_gradient: Tensor | None = None


def minimise(
    rows: Rows,
    signs: Tensor,
    cost: Tensor,
    start: Tensor,
    tolerance: float,
    max_iterations: int = 100,
) -> Solution:
    """Minimises every class's objective until its gap is at most `tolerance` times the objective.

    The gap is |gradient|^2 / 2, as the objective is 1-strongly convex. A class that float32 lets no further stops where
    it is; `Solution.gap` tells.

    Args:
        signs: (K, N) float32, +1 and -1.
        cost: (N,) float32, C for the rows that count and 0 for those that do not.
        start: (K, D + 1) float64 weights to start from.
    """
    weights, gradient = start.clone(), torch.empty_like(start)
    objective = torch.full((len(signs),), torch.inf, dtype=torch.float64, device=rows.device)
    origin = rows.combine(slope(torch.zeros_like(signs)).mul_(cost).mul_(signs)).norm(dim=1)
    active = torch.arange(len(signs), device=rows.device)
    iterations, products = 0, 1
    factor: Factor | None = None
    while True:
        w, y = weights[active], signs[active]
        z = rows.values(w).mul_(y)
        g = w + rows.combine(slope(z).mul_(cost).mul_(y))
        f = 0.5 * dot(w, w)[:, 0] + (squared_hinge(z) * cost).sum(1, dtype=torch.float64)
        products += 2
        # Where a whole step gains less than this, only rounding is left.
        stalled = f > objective[active] * (1 - 1e-10)
        gradient[active], objective[active] = g, f
        left = (0.5 * g.square().sum(1) > tolerance * f) & ~stalled
        if iterations == max_iterations or not left.any():
            break
        iterations += 1
        active, w, y, z, g = active[left], w[left], y[left], z[left], g[left]
        forcing = (g.norm(dim=1, keepdim=True) / origin[active, None]).sqrt().clamp(max=0.1)
        weighted = curvature(z).mul_(cost)
        kappa = weighted.mean(1, keepdim=True, dtype=torch.float64).clamp_(min=1e-12)
        # One factor for all classes: kappa matters only where I outweighs the moments; a factor of 2 is close.
        typical = kappa.log().mean().exp().item()
        if factor is None or not 0.5 < factor.kappa / typical < 2:
            factor = rows.factor(typical)
        hessian = partial(times_hessian, rows, weighted)
        direction, count = newton_direction(hessian, g, factor, forcing)
        change = rows.values(direction).mul_(y)
        products += 2 * count + 1
        slopes = partial(slopes_along, w, direction, z, change, cost)
        weights[active] = w + line_search(slopes, len(w), w) * direction
    gap = 0.5 * gradient.square().sum(1)
    relative = gradient.norm(dim=1) / origin.clamp(min=1e-300)
    return Solution(weights, objective, gap, iterations, products, relative)


def times_hessian(rows: Rows, weighted: Tensor, v: Tensor) -> Tensor:
    """(I + sum_i weighted_ki x_i x_i^T) v_k for every class; curvatures times costs (K, N), v (K, D + 1)."""
    return v + rows.combine(rows.values(v).mul_(weighted))


def newton_direction(
    hessian: Callable[[Tensor], Tensor],
    gradient: Tensor,
    factor: Factor,
    forcing: Tensor,
    inner: Callable[[Tensor, Tensor], Tensor] = dot,
    limit: int = 200,
) -> tuple[Tensor, int]:
    """Solves H d = -gradient by preconditioned conjugate gradients.

    Args:
        hessian: v -> H v, both (K, D + 1).
        factor: the preconditioner; its scale does not matter.
        forcing: (K, 1) or (1, 1), how far the residual must fall, in the preconditioner's norm.
        inner: scalar products, (K, 1) for K systems side by side or (1, 1) for a single one.

    Returns:
        (K, D + 1) directions and the number of products with H.
    """
    direction, residual = torch.zeros_like(gradient), -gradient
    z = factor.solve(residual)
    conjugate, rho = z, inner(residual, z)
    target, count = rho * forcing.square(), 0
    while count < limit and (rho > target).any():
        count += 1
        image = hessian(conjugate)
        # Systems that are solved take steps of zero.
        alpha = torch.where(rho > target, rho / inner(conjugate, image), 0.0)
        direction = direction + alpha * conjugate
        residual = residual - alpha * image
        z = factor.solve(residual)
        rho, before = inner(residual, z), rho
        conjugate = z + rho / before * conjugate
    return direction, count


def slopes_along(
    weights: Tensor, direction: Tensor, z: Tensor, change: Tensor, cost: Tensor, t: Tensor
) -> tuple[Tensor, Tensor]:
    """First and second derivative (K, 1) of the objectives at weights + t direction, margins z + t change."""
    at, weighted = z + t.to(z) * change, change * cost
    quadratic = dot(direction, direction)
    first = dot(weights, direction) + t * quadratic + dot(weighted, slope(at))
    return first, quadratic + dot(weighted.mul_(change), curvature(at))


def line_search(
    slopes: Callable[[Tensor], tuple[Tensor, Tensor]], systems: int, like: Tensor, steps: int = 12
) -> Tensor:
    """Step sizes (systems, 1) that minimise convex functions: Newton steps, kept within a bracket.

    Args:
        slopes: step sizes -> first and second derivatives there.
        like: a tensor of the device and type wanted.
    """
    t = like.new_ones(systems, 1)
    low, high = torch.zeros_like(t), torch.full_like(t, torch.inf)
    for _ in range(steps):
        first, second = slopes(t)
        low, high = torch.where(first < 0, t, low), torch.where(first < 0, high, t)
        step = t - first / second.clamp(min=1e-300)
        # At the minimum rounding decides the slope's sign, and a step of nothing lies in no bracket.
        inside = (step > low) & (step < high) | ((step - t).abs() <= 1e-9 * t)
        t = torch.where(inside, step, torch.where(high.isinf(), 2 * t, (low + high) / 2))
    return t

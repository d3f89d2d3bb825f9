"""The plain hinge, all classes at once, until a duality gap certifies the result.

    minimise over w  P(w) = 1/2 |w|^2 + sum_i cost_i max(0, 1 - z_i),  z_i = y_i x_i . w
    maximise over a  D(a) = sum_i a_i - 1/2 |sum_i a_i y_i x_i|^2,  0 <= a_i <= cost_i

Solved by the alternating direction method of multipliers (Boyd et al. 2011): margins z are variables of their
own, tied to w by a penalty rho / 2 |y X w - z + u|^2. The step in w is one solve with the factor of the rows'
moments, the step in z is closed form, and a = -rho u is feasible by construction, so that P(w) - D(a) bounds how
far P(w) lies above its minimum. Rounding the hinge's corner and narrowing it (Newton's method) was tried first: it
needed five times as many products with the rows for the same gap.
"""

import torch
from torch import Tensor

from dim.errors import UserError
from dim.evaluation.newton import MAX_MOMENTS, Rows, Solution, dot

CHECK = 10  # iterations between two looks at the gap, which costs half an iteration
RELAXATION = 1.6  # over-relaxation, within the 1.5 to 1.8 that Boyd et al. recommend


def minimise_hinge(
    rows: Rows,
    signs: Tensor,
    cost: Tensor,
    start: Tensor,
    tolerance: float,
    max_iterations: int = 2000,
) -> Solution:
    """Minimises P for every class to a duality gap of at most `tolerance` times P, or as far as it comes.

    Args:
        signs: (K, N) float32, +1 and -1.
        cost: (N,) float32, C for the rows that count and 0 for those that do not.
        start: (K, D + 1) float64 weights to start from.

    Raises:
        UserError: more than MAX_MOMENTS features, whose exact factor each step needs.
    """
    if not rows.full:
        raise UserError(
            f"svm: the plain hinge is solved for up to {MAX_MOMENTS} features, found {rows.features.shape[1]}: leave "
            "this layer out (--layers), or take the squared hinge of --protocol quick or standard"
        )
    weights, primal = start.clone(), torch.full_like(start[:, 0], torch.inf)
    dual, products = -primal, 1
    rho = cost.max().item()
    factor = rows.factor(rho)
    z = rows.values(start).mul_(signs)
    u = (z < 1).to(z.dtype).mul_(-cost / rho)
    for iteration in range(1, max_iterations + 1):
        w = factor.solve(rho * rows.combine((z - u).mul_(signs)))
        image = rows.values(w).mul_(signs)
        moved = z
        z, u = margin_step(torch.lerp(z, image, RELAXATION).add_(u), cost / rho)
        products += 2
        if iteration % CHECK:
            continue
        from_dual = rows.combine((-rho * u).mul_(signs))
        products += 1
        value = 0.5 * dot(w, w)[:, 0] + ((1 - image).clamp_(min=0) * cost).sum(1, dtype=torch.float64)
        weights = torch.where((value < primal)[:, None], w, weights)
        primal = torch.minimum(primal, value)
        bound = -rho * u.sum(1, dtype=torch.float64) - 0.5 * dot(from_dual, from_dual)[:, 0]
        dual = torch.maximum(dual, bound)
        if (primal - dual <= tolerance * primal).all():
            break
        # Residual balancing: the relative residuals should fall together (Boyd et al. 2011, section 3.4.1).
        split = ((image - z).norm() / image.norm()).item()
        change = (rho * rows.combine((z - moved).mul_(signs)).norm() / from_dual.norm()).item()
        products += 1
        scale = min(max((split / max(change, 1e-30)) ** 0.5, 0.1), 10.0)
        if not 0.5 < scale < 2:
            rho, u = rho * scale, u / scale
            factor = rows.factor(rho)
    return Solution(weights, primal, primal - dual, iteration, products)


def margin_step(v: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """argmin over z of threshold max(0, 1 - z) + 1/2 (z - v)^2, and v - z, which lies in [-threshold, 0]."""
    u = (v - 1).clamp_(max=0).maximum(-threshold)
    return v - u, u

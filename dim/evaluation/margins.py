"""Losses of a margin z = y f, each with the derivatives that Newton's method needs."""

from typing import Protocol

from torch import Tensor


class MarginLoss(Protocol):
    """A convex, once differentiable loss; every method acts element by element."""

    def value(self, z: Tensor) -> Tensor:
        """l(z)."""

    def slope(self, z: Tensor) -> Tensor:
        """l'(z)."""

    def curvature(self, z: Tensor) -> Tensor:
        """l''(z), a generalised one at the kinks of l'."""


class SquaredHinge:
    """max(0, 1 - z)^2, liblinear's L2 loss."""

    def value(self, z: Tensor) -> Tensor:
        return (1 - z).clamp_(min=0).square_()

    def slope(self, z: Tensor) -> Tensor:
        return (1 - z).clamp_(min=0).mul_(-2)

    def curvature(self, z: Tensor) -> Tensor:
        return (z < 1).to(z.dtype).mul_(2)

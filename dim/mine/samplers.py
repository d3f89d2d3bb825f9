"""Pairs that know their own mutual information: jointly Gaussian ones, and functions of uniform ones under noise."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dim.errors import UserError

Pairs = tuple[Tensor, Tensor]


def _log_determinant(covariance: Tensor, name: str) -> Tensor:
    factor, failed = torch.linalg.cholesky_ex(covariance)  # of the lower triangle alone
    if failed or not torch.allclose(covariance, covariance.T):
        raise UserError(f"{name} is no covariance: not symmetric and positive definite")
    return 2 * factor.diagonal().log().sum()


@dataclass(frozen=True)
class Gaussian:
    """Jointly Gaussian (X, Z).

    Args:
        covariance: of (X, Z) together, (D, D).
        size: how many of its rows belong to X.
        mean: of (X, Z), (D,); by default 0.
        cubed: hand out Z^3 instead of Z, which leaves the information as it is (Poole et al. 2019, section 4.1).
    """

    covariance: Tensor
    size: int
    mean: Tensor | None = None
    cubed: bool = False

    @property
    def information(self) -> float:
        """I(X; Z) in nats: 1/2 log(|S_xx| |S_zz| / |S|).

        Raises:
            UserError: if the covariance is not symmetric and positive definite.
        """
        s = self.covariance.double()
        parts = (s[: self.size, : self.size], s[self.size :, self.size :])
        x, z = (_log_determinant(part, "a part") for part in parts)
        return float(x + z - _log_determinant(s, "the matrix")) / 2

    def __call__(self, rows: int, generator: torch.Generator) -> Pairs:
        """Draws x (rows, size) and z (rows, D - size)."""
        factor = torch.linalg.cholesky(self.covariance.double()).float()
        both = torch.randn(rows, len(factor), generator=generator) @ factor.T
        if self.mean is not None:
            both = both + self.mean
        x, z = both[:, : self.size], both[:, self.size :]
        return x, z**3 if self.cubed else z


@dataclass(frozen=True)
class Correlated:
    """X and Z standard Gaussians of `size` components, each correlated with its own partner alone by `rho`.

    Args:
        rho: between -1 and 1.
        cubed: hand out Z^3.
    """

    rho: float
    size: int
    cubed: bool = False

    @classmethod
    def of_information(cls, nats: float, size: int, cubed: bool = False) -> "Correlated":
        """The pair whose information is `nats`."""
        return cls(math.sqrt(-math.expm1(-2 * nats / size)), size, cubed)

    @property
    def information(self) -> float:
        """I(X; Z) in nats: -(size/2) log(1 - rho^2)."""
        return -self.size / 2 * math.log1p(-(self.rho**2)) + 0.0

    def __call__(self, rows: int, generator: torch.Generator) -> Pairs:
        """Draws x and z, (rows, size) each."""
        x, noise = torch.randn(2, rows, self.size, generator=generator)
        z = self.rho * x + math.sqrt(1 - self.rho**2) * noise
        return x, z**3 if self.cubed else z


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"x": lambda x: x, "x^3": lambda x: x**3, "sin x": torch.sin}


@dataclass(frozen=True)
class Noisy:
    """Y = f(X) + sigma eps with X uniform on (-1, 1)^size and eps standard Gaussian, component by component.

    Args:
        function: a name of FUNCTIONS.
        sigma: above 0.
    """

    function: str
    sigma: float
    size: int = 2

    @property
    def information(self) -> float:
        """I(X; Y) in nats: size times h(Y_1) - h(sigma eps), h(Y_1) by quadrature.

        The density of Y_1 is the mean of Gaussians at f(x); both integrals are Gauss-Legendre sums on pieces that are
        narrow beside sigma, so that their error is far below a millinat.
        """
        sigma = self.sigma
        centres, weights = _legendre(-1, 1, max(8, math.ceil(4 / sigma)))
        f = FUNCTIONS[self.function](torch.from_numpy(centres)).numpy()
        reach = float(np.abs(f).max()) + 9 * sigma
        y, dy = _legendre(-reach, reach, max(16, math.ceil(2 * reach / sigma)))
        kernel = np.exp(-0.5 * ((y[:, None] - f) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
        density = kernel @ weights / 2
        entropy = -float(dy @ (density * np.log(density)))
        return self.size * (entropy - 0.5 * math.log(2 * math.pi * math.e * sigma**2))

    def __call__(self, rows: int, generator: torch.Generator) -> Pairs:
        """Draws x and y, (rows, size) each."""
        x = 2 * torch.rand(rows, self.size, generator=generator) - 1
        return x, FUNCTIONS[self.function](x) + self.sigma * torch.randn(rows, self.size, generator=generator)


def _legendre(low: float, high: float, pieces: int, order: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss-Legendre quadrature on equal pieces of (low, high)."""
    nodes, weights = np.polynomial.legendre.leggauss(order)
    edges = np.linspace(low, high, pieces + 1)
    half = (high - low) / pieces / 2
    return ((edges[:-1] + half)[:, None] + half * nodes).ravel(), np.tile(half * weights, pieces)

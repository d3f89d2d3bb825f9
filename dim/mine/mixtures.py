"""Targets of the GAN experiment in the plane, and how much of one a generator covers."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

TargetName = Literal["grid", "spiral"]

RADII = 3.0
"""A sample within so many standard deviations of the target's skeleton is of high quality."""


@dataclass(frozen=True, eq=False)
class Target:
    """An equal mixture of round Gaussians whose centres make up the skeleton of the distribution.

    Attributes:
        centres: (K, 2).
        mode: which mode each centre belongs to, (K,), modes numbered from 0.
        sigma: standard deviation of the Gaussians along each axis.
    """

    name: TargetName
    centres: Tensor
    mode: Tensor
    sigma: float

    @property
    def modes(self) -> int:
        """Number of modes."""
        return int(self.mode.max()) + 1

    def sample(self, rows: int, generator: torch.Generator) -> Tensor:
        """Draws (rows, 2)."""
        which = torch.randint(len(self.centres), (rows,), generator=generator)
        return self.centres[which] + self.sigma * torch.randn(rows, 2, generator=generator)


def grid() -> Target:
    """25 Gaussians on a 5 x 5 grid of spacing 2, sigma 0.1.

    MINE (5.1) shows the grid without its numbers. The spacing is VEEGAN's (Srivastava et al. 2017), whose measures
    `coverage` takes too; sigma is twice VEEGAN's 0.05, which is too narrow for 5,000 steps of the plain GAN.
    """
    axis = torch.arange(-4.0, 5.0, 2.0)
    return Target("grid", torch.cartesian_prod(axis, axis), torch.arange(25), 0.1)


def spiral(turns: float = 1.5, radius: float = 4.0, sigma: float = 0.1, modes: int = 25) -> Target:
    """An Archimedean spiral of evenly spread centres, cut into arcs of equal length that count as modes.

    MINE (5.1) shows a spiral without its numbers: all of these are chosen.
    """
    # The first quarter of a turn is left out: there the arms would lie within each other's noise.
    angle = np.linspace(math.pi / 2, 2 * math.pi * turns, 20_001)
    scale = radius / angle[-1]
    curve = _archimedes(angle, scale)
    length = np.append(0.0, np.linalg.norm(np.diff(curve, axis=0), axis=1)).cumsum()
    # Far closer to each other than sigma: the mixture is a smooth band along the curve.
    count = 100 * modes
    even = np.interp((np.arange(count) + 0.5) / count * length[-1], length, angle)
    centres = torch.from_numpy(_archimedes(even, scale)).float()
    return Target("spiral", centres, torch.arange(count) // 100, sigma)


def _archimedes(angle: np.ndarray, scale: float) -> np.ndarray:
    return scale * angle[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)


def target(name: TargetName) -> Target:
    """The target of that name."""
    if name not in get_args(TargetName):
        raise ValueError(f"unknown target {name!r}: one of {', '.join(get_args(TargetName))}")
    return grid() if name == "grid" else spiral()


def coverage(samples: Tensor, target: Target, least: float = 0.2) -> dict[str, float]:
    """How well samples (n, 2) cover a target.

    A sample is of high quality within `RADII` sigma of the nearest centre, and belongs to that centre's mode.

    Args:
        least: a mode is covered by at least this share of what it would get of n samples in equal parts. VEEGAN
            counts a mode from one sample on, which a generator's stray samples between modes can meet.

    Returns:
        modes: number of modes covered; quality: share of high-quality samples; kl: KL divergence in nats of the
        high-quality samples' histogram over modes from the uniform one (log of the number of modes if there are
        no such samples, as for all samples in one mode).
    """
    nearest = torch.cat([torch.cdist(part, target.centres).min(1).indices for part in samples.split(5000)])
    distance = (samples - target.centres[nearest]).norm(dim=1)
    good = distance <= RADII * target.sigma
    counts = torch.bincount(target.mode[nearest[good]], minlength=target.modes).double()
    share = counts / counts.sum().clamp(min=1)
    kl = torch.special.entr(share).sum().neg() + math.log(target.modes) if good.any() else math.log(target.modes)
    return {
        "modes": int((counts >= max(1.0, least * len(samples) / target.modes)).sum()),
        "quality": float(good.double().mean()),
        "kl": float(kl),
    }

"""Training a statistics network on pairs, and what it certifies on others."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dim.mine.networks import StatisticsNetwork
from dim.objectives import Objective, dv

SHUFFLES = 10
"""Shuffled partners for each held-out x: more of them make the negatives' mean more exact at little cost."""


@dataclass
class MovingAverage:
    """Exponential moving average of mean e^T in the log domain, for DV's bias-corrected gradient (MINE, 3.2)."""

    rate: float = 0.01
    log_value: Tensor | None = None

    def update(self, log_mean: Tensor) -> Tensor:
        """The logarithm of the average after taking in e^log_mean."""
        if self.log_value is None:
            self.log_value = log_mean
        else:
            kept = self.log_value + math.log1p(-self.rate)
            self.log_value = torch.logaddexp(kept, log_mean + math.log(self.rate))
        return self.log_value


def shuffled(rows: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """A permutation without fixed points: nobody is paired with itself."""
    order = torch.randperm(rows, generator=generator)
    partner = torch.empty_like(order)
    partner[order] = order.roll(1)
    return partner.to(device)


def scores(network: StatisticsNetwork, x: Tensor, z: Tensor, partner: Tensor) -> tuple[Tensor, Tensor]:
    """One row of positives and one of negatives, (1, N) each."""
    embedded = network.embed(x)
    return network(embedded, z)[None], network(embedded, z[partner])[None]


def loss(objective: Objective, positive: Tensor, negative: Tensor, average: MovingAverage) -> Tensor:
    """What a step minimises: minus the objective; for DV the form whose gradient divides by the moving average."""
    if objective is not dv:
        return -objective(positive, negative)
    log_mean = negative.logsumexp(1) - math.log(negative.shape[1])
    log_average = average.update(log_mean.detach())
    return -(positive.mean() - (log_mean - log_average).exp().mean())


@torch.no_grad()
def held_out(
    network: StatisticsNetwork, x: Tensor, z: Tensor, prepare: nn.Module, generator: torch.Generator, chunk: int = 2000
) -> tuple[Tensor, Tensor]:
    """Scores of all pairs (1, n) and of each x with SHUFFLES other z (1, SHUFFLES n), in evaluation mode."""
    network.eval()
    partners = [shuffled(len(x), generator, z.device) for _ in range(SHUFFLES)]
    positive, negative = [], []
    for start in range(0, len(x), chunk):
        rows = slice(start, start + chunk)
        embedded = network.embed(prepare(x[rows]))
        positive.append(network(embedded, z[rows]))
        negative += [network(embedded, z[partner[rows]]) for partner in partners]
    network.train()
    return torch.cat(positive)[None], torch.cat(negative)[None]

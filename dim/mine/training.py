"""Steps of training a statistics network, and its scores on pairs."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dim.mine.inputs import Pairs
from dim.mine.networks import StatisticsNetwork
from dim.networks.modes import evaluating
from dim.objectives import Objective, dv, log_mean_exp

Sampler = Callable[[int, torch.Generator], Pairs]
"""`sampler(n, generator)` draws n fresh pairs."""
LOG_RATIO: dict[str, Callable[[Tensor], Tensor]] = {
    # At the optimum of an f-divergence T is a function of r = p(x, z) / (p(x) p(z)): 1 + log r = T,
    # 1 - r^(-1/2) = 1 - e^(-T), and 2 (r - 1) = T. Others have T = log r, dv and infonce up to a constant.
    "nwj": lambda t: t - 1,
    "kl": lambda t: t - 1,
    "hellinger": lambda t: 2 * t,
    "chi2": lambda t: (t / 2).clamp(min=-0.999).log1p(),
}
"""Scores of what these objectives train, as log ratios."""
FELT = ("nwj", "kl", "js", "smile")
"""Objectives whose estimate takes scores for log ratios (nwj and kl: one more), constant included."""
LEFT_TO_CHANCE = {"dv": ("a constant", FELT), "infonce": ("a constant of each row", ("dv", *FELT))}
"""What an objective does not feel when it is added to scores, and the objectives whose estimate does."""


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


class Critic(nn.Module):
    """A statistics network with what is needed around it: scaled inputs and, for some objectives, a baseline.

    Args:
        network: scores scaled x and z.
        baseline: maps scaled z to the logarithm of a learned baseline (N, 1), or None.
        scale_x, scale_z: applied to raw rows.
    """

    def __init__(
        self, network: StatisticsNetwork, baseline: nn.Module | None, scale_x: nn.Module, scale_z: nn.Module
    ) -> None:
        super().__init__()
        self.network, self.baseline = network, baseline
        self.scale_x, self.scale_z = scale_x, scale_z

    def forward(self, x: Tensor, z: Tensor, negatives: int) -> "Scores":
        """Each z with its own x and with those of the next `negatives` pairs, the last ones followed by the first."""
        z = self.scale_z(z)
        keys = self.network.keys(self.scale_x(x))
        return self.score(self.network.queries(z), torch.cat([keys, keys[:negatives]]), z)

    def score(self, queries: Tensor, keys: Tensor, z: Tensor) -> "Scores":
        rows = self.network.rows(queries, keys)
        return Scores(rows[:, :1], rows[:, 1:], None if self.baseline is None else self.baseline(z))


@dataclass(frozen=True)
class Scores:
    """Rows for an objective: positive (N, 1), negative (N, K), logarithm of the baseline (N, 1) or None."""

    positive: Tensor
    negative: Tensor
    log_baseline: Tensor | None = None

    def estimate(self, objective: Objective, transform: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """What `objective` reports, in nats; `transform` is applied to the scores first."""
        positive, negative = self.positive, self.negative
        if transform:
            positive, negative = transform(positive), transform(negative)
        if self.log_baseline is not None and not objective.takes_baseline:
            # Trained with a baseline, T less its logarithm is what others learn.
            positive, negative = positive - self.log_baseline, negative - self.log_baseline
        value = objective.estimate(positive, negative, self.log_baseline)
        assert value is not None
        return value

    def detached(self) -> "Scores":
        """The same without a gradient."""
        baseline = None if self.log_baseline is None else self.log_baseline.detach()
        return Scores(self.positive.detach(), self.negative.detach(), baseline)

    def split(self, parts: int) -> list["Scores"]:
        """The rows in so many parts."""
        baselines = [None] * parts if self.log_baseline is None else self.log_baseline.tensor_split(parts)
        sides = self.positive.tensor_split(parts), self.negative.tensor_split(parts)
        return [Scores(*part) for part in zip(*sides, baselines, strict=True)]


def loss(objective: Objective, scores: Scores, average: MovingAverage) -> Tensor:
    """What a step minimises: minus the objective; for DV the form whose gradient divides by the moving average."""
    if objective is not dv:
        return -objective(scores.positive, scores.negative, scores.log_baseline)
    log_mean = log_mean_exp(scores.negative)
    log_average = average.update(log_mean.detach())
    return -(scores.positive.mean() - (log_mean - log_average).exp())


def batches(x: Tensor, z: Tensor, size: int, generator: torch.Generator) -> Iterator[Pairs]:
    """Batches of the pairs without end, in a new order for each pass; a pass leaves out what fills no batch."""
    while True:
        for rows in torch.randperm(len(x), generator=generator).to(x.device).split(size):
            if len(rows) == size:
                yield x[rows], z[rows]


@dataclass
class Trainer:
    """A critic's training, one `step` after the other.

    Args:
        critic: what is trained.
        objective: what is maximised.
        learning_rate: of Adam at the start; it decays to zero along a cosine over `steps`.
        negatives: other x of the batch that each z is scored with.
    """

    critic: Critic
    objective: Objective
    learning_rate: float
    steps: int
    negatives: int
    average: MovingAverage = field(default_factory=MovingAverage)

    def __post_init__(self) -> None:
        self._optimiser = torch.optim.Adam(self.critic.parameters(), self.learning_rate)
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimiser, self.steps)

    def step(self, x: Tensor, z: Tensor) -> Scores:
        """Takes one step on a batch and returns its scores from before, without a gradient."""
        scores = self.critic(x, z, self.negatives)
        self._optimiser.zero_grad()
        loss(self.objective, scores, self.average).backward()
        self._optimiser.step()
        self._schedule.step()
        return scores.detached()


def held_out(critic: Critic, x: Tensor, z: Tensor, negatives: int, chunk: int = 2000) -> Scores:
    """Scores of all pairs in evaluation mode, each z also with the x of the next `negatives` pairs.

    The pairs must be in random order: what follows a pair must tell nothing about it.
    """
    with evaluating(critic):
        keys = torch.cat([critic.network.keys(critic.scale_x(part)) for part in x.split(chunk)])
        keys = torch.cat([keys, keys[:negatives]])
        found = []
        for start in range(0, len(z), chunk):
            part = critic.scale_z(z[start : start + chunk])
            found.append(critic.score(critic.network.queries(part), keys[start : start + len(part) + negatives], part))
    baselines = [scores.log_baseline for scores in found if scores.log_baseline is not None]
    return Scores(
        torch.cat([scores.positive for scores in found]),
        torch.cat([scores.negative for scores in found]),
        torch.cat(baselines) if baselines else None,
    )


class Best:
    """The critic with the best validation estimate so far, and whether to wait for a better one."""

    def __init__(self, patience: int | None) -> None:
        self.patience, self.value, self.waited = patience, -math.inf, 0
        self.state: dict[str, Tensor] | None = None

    def stop(self, value: float, critic: Critic) -> bool:
        """Takes in an evaluation; True if it is time to stop."""
        self.waited += 1
        if value > self.value:
            self.value, self.waited, self.state = value, 0, copy.deepcopy(critic.state_dict())
        return self.patience is not None and self.waited >= self.patience

    def restore(self, critic: Critic) -> None:
        """Puts the best weights back."""
        if self.state is not None:
            critic.load_state_dict(self.state)

"""An estimator of mutual information in scikit-learn's manner."""

import dataclasses
import math
import statistics
import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from dim.errors import UserError
from dim.mine import training
from dim.mine.networks import image_network, vector_network
from dim.objectives import OBJECTIVES, ObjectiveName, log_mean_exp

NATS_PER_BIT = math.log(2)


class _Scale(nn.Module):
    """uint8 images to [-1, 1]; vectors to zero mean and unit variance of the training rows."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.image = rows.ndim == 4
        if not self.image:
            flat = rows.flatten(1).double()
            mean, scale = flat.mean(0), flat.std(0)
            # Below float32's resolution around its mean, a feature's variation is rounding.
            scale = scale.masked_fill(scale <= 1e-6 * mean.abs().clamp(min=1e-6), 1.0)
            self.mean, self.scale = mean.float(), scale.float()

    def forward(self, rows: Tensor) -> Tensor:
        if not self.image:
            return (rows.flatten(1).float() - self.mean) / self.scale
        return rows.float() / 127.5 - 1 if rows.dtype == torch.uint8 else rows.float()


@dataclasses.dataclass(eq=False)
class MINE:
    """Mutual information I(X; Z) by training a critic; `fit(x, z)` then `estimate_`.

    The estimate comes from pairs that were held out of training, so that it is a lower bound in expectation for
    the objectives that are bounds; a bound from n pairs cannot certify much more than log n nats (McAllester and
    Stratos 2020), which `ceiling_` holds.

    Args:
        bound: objective that trains the critic; dv uses the moving average of the MINE paper in its gradient.
        report: objective that reports; by default the one that trains, or dv where that has no estimate.
        widths: hidden widths of the critic on vectors (images use the lab's convolutional critic).
        epochs: passes over the training pairs.
        batch_size: pairs a step; each is also scored with one shuffled partner.
        learning_rate: of Adam at the start; it decays to zero along a cosine.
        held_out: share of the pairs that is kept for the estimate.
        evaluations: evaluations on held-out pairs along the way; the last ones give the spread.
        unit: nats or bits.
        seed: of everything that is drawn.
        device: where to compute; by default where x is.
        progress: called with a description and the fraction done.

    Attributes:
        estimate_: mutual information in `unit`, from the held-out pairs.
        standard_error_: of DV's held-out estimate given the critic, by the delta method.
        spread_: standard deviation over the last quarter of the evaluations.
        history_: epoch, estimate and training estimate of each evaluation.
        ceiling_: log of the number of held-out pairs, in `unit`.
    """

    bound: ObjectiveName = "dv"
    report: ObjectiveName | None = None
    widths: tuple[int, ...] = (512, 512)
    epochs: float = 50
    batch_size: int = 512
    learning_rate: float = 1e-3
    held_out: float = 0.2
    evaluations: int = 20
    unit: Literal["nats", "bits"] = "nats"
    seed: int = 0
    device: str | torch.device | None = None
    progress: Callable[[str, float], None] | None = None

    def fit(self, x: Any, z: Any, x_test: Any = None, z_test: Any = None) -> "MINE":
        """Trains on pairs (x, z), arrays or tensors of equal length; x may be images (n, C, S, S), uint8 or [-1, 1].

        The estimate is taken on `x_test`, `z_test` if given, else on a held-out share.

        Raises:
            UserError: for unequal lengths, NaN or infinity, constants, too few pairs, an objective that needs
                more than one sample a row or a learned baseline.
        """
        objective, reporter = self._objectives()
        if self.evaluations < 1 or self.epochs <= 0 or self.batch_size < 2:
            raise UserError("mine: evaluations, epochs and batch_size (at least 2) must be positive")
        x, z = _pair(x, z, "training")
        device = torch.device(self.device or x.device)
        generator = torch.Generator().manual_seed(self.seed)
        if x_test is None:
            order = torch.randperm(len(x), generator=generator)
            cut = max(2, round(self.held_out * len(x)))
            x, z, test = x[order[cut:]], z[order[cut:]], (x[order[:cut]], z[order[:cut]])
        else:
            test = _pair(x_test, z_test, "test")
        if len(x) < 2 * min(self.batch_size, 16):
            raise UserError(f"mine: {len(x)} training pairs are too few; give at least {2 * min(self.batch_size, 16)}")
        x, z, x_test, z_test = (side.to(device) for side in (x, z, *test))
        self._train(x, z, x_test, z_test, objective, reporter, generator)
        self._warn()
        return self

    def _objectives(self) -> tuple[Any, Any]:
        for name in (self.bound, self.report):
            if name is not None and name not in OBJECTIVES:
                raise UserError(f"mine: there is no objective '{name}': choose from {', '.join(OBJECTIVES)}")
        objective = OBJECTIVES[self.bound]
        reporter = OBJECTIVES[self.report or (self.bound if objective._estimate else "dv")]
        if objective.takes_baseline or reporter.takes_baseline or reporter._estimate is None:
            raise UserError(
                f"mine: '{self.report or self.bound}' cannot be used with single pairs; try dv, nwj or smile"
            )
        return objective, reporter

    def _train(
        self,
        x: Tensor,
        z: Tensor,
        x_test: Tensor,
        z_test: Tensor,
        objective: Any,
        reporter: Any,
        generator: torch.Generator,
    ) -> None:
        scale_x, scale_z = _Scale(x), _Scale(z)
        z, z_test = scale_z(z), scale_z(z_test)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            network = (
                image_network(x.shape[-1], z.shape[1], x.shape[1])
                if x.ndim == 4
                else vector_network(x[0].numel(), z.shape[1], self.widths)
            ).to(x.device)
        batch = min(self.batch_size, len(x))
        steps = max(1, round(self.epochs * (len(x) // batch)))
        optimiser = torch.optim.Adam(network.parameters(), self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        average = training.MovingAverage()
        due = {round(steps * (k + 1) / self.evaluations) for k in range(self.evaluations)}
        self.history_: list[dict[str, float]] = []
        order, place, total, count = torch.empty(0, dtype=torch.int64), 0, torch.zeros((), device=x.device), 0
        for step in range(1, steps + 1):
            if place + batch > len(order):
                order, place = torch.randperm(len(x), generator=generator).to(x.device), 0
            rows, place = order[place : place + batch], place + batch
            pair = training.scores(network, scale_x(x[rows]), z[rows], training.shuffled(batch, generator, x.device))
            optimiser.zero_grad()
            training.loss(objective, *pair, average).backward()
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                total += reporter.estimate(*pair)
            count += 1
            if step in due:
                scores = training.held_out(network, x_test, z_test, scale_x, generator)
                estimate = float(reporter.estimate(*scores))
                if not math.isfinite(estimate):
                    raise UserError(f"mine: the estimate is not finite after {step} steps: try bound smile or infonce")
                epoch = step * batch / len(x)
                self.history_.append(
                    {"epoch": epoch, "estimate": self._in_unit(estimate), "train": self._in_unit(float(total) / count)}
                )
                total, count = torch.zeros_like(total), 0
            if self.progress:
                self.progress("mine", step / steps)
        self.network_ = network
        self._summarise(*scores)

    def _in_unit(self, nats: float) -> float:
        return nats / NATS_PER_BIT if self.unit == "bits" else nats

    def _summarise(self, positive: Tensor, negative: Tensor) -> None:
        estimates = [entry["estimate"] for entry in self.history_]
        last = estimates[-max(2, len(estimates) // 4) :]
        self.estimate_ = estimates[-1]
        self.spread_ = statistics.stdev(last) if len(last) > 1 else 0.0
        self.mean_of_last_ = statistics.fmean(last)
        # Delta method for DV: variances of the mean score and of the mean exponential over its own square.
        n, m = positive.numel(), negative.numel()
        weights = (negative - log_mean_exp(negative)).exp()
        error = (positive.var() / n + weights.var() / m).sqrt()
        self.standard_error_ = self._in_unit(float(error))
        self.ceiling_ = self._in_unit(math.log(n))

    def _warn(self) -> None:
        train = statistics.fmean(entry["train"] for entry in self.history_[-3:])
        if self.estimate_ > 0.9 * self.ceiling_:
            warnings.warn(
                f"mine: {self.estimate_:.2f} {self.unit} is close to log n = {self.ceiling_:.2f}: this many held-out "
                "pairs certify no more",
                stacklevel=3,
            )
        elif train - self.estimate_ > max(0.5, 0.2 * abs(train)):
            warnings.warn(
                f"mine: {train:.2f} {self.unit} on training pairs but {self.estimate_:.2f} on held-out ones: the "
                "critic overfits; give more pairs or fewer epochs",
                stacklevel=3,
            )


def _pair(x: Any, z: Any, name: str) -> tuple[Tensor, Tensor]:
    """Both sides as tensors, checked."""
    sides = []
    for side, values in (("x", x), ("z", z)):
        tensor = torch.as_tensor(np.asarray(values)) if not isinstance(values, Tensor) else values.detach()
        tensor = tensor[:, None] if tensor.ndim == 1 else tensor
        if not len(tensor) or not torch.isfinite(tensor.float()).all():
            raise UserError(f"mine: {name} {side} is empty or holds NaN or infinity")
        if (tensor == tensor[:1]).all():
            raise UserError(f"mine: {name} {side} is constant: its mutual information with anything is 0")
        sides.append(tensor)
    if len(sides[0]) != len(sides[1]):
        raise UserError(f"mine: {name} x has {len(sides[0])} rows and z {len(sides[1])}: they must be pairs")
    return sides[0], sides[1]

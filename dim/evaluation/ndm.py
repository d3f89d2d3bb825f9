"""Neural dependency measure (NDM): how far the features of a code are from independent (table 4)."""

import math
import statistics
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from dim.errors import UserError
from dim.evaluation.features import Standardiser
from dim.networks.discriminators import CodeDiscriminator
from dim.networks.modes import evaluating
from dim.objectives import OBJECTIVES, dv
from dim.progress import Report, silent

SHUFFLES = 10
"""Shuffled copies of the held-out codes; more make the second term of the bound more exact."""


@dataclass(frozen=True)
class NDMTraining:
    """How the discriminator is trained. The defaults are the paper's but for the epochs, which were not published.

    Attributes:
        objective: kl, the f-divergence that the authors train with, or dv.
        milestones: epochs at which the learning rate falls to a tenth.
        evaluations: held-out evaluations, evenly spaced; the last quarter gives the spread.
    """

    objective: Literal["kl", "dv"] = "kl"
    epochs: int = 1000
    batch_size: int = 10_000
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.999)
    milestones: tuple[int, ...] = (500, 750)
    evaluations: int = 20
    seed: int = 0


def independent(codes: Tensor, generator: torch.Generator) -> Tensor:
    """Codes (N, D) with each feature permuted over the rows on its own: the product of the marginals."""
    order = torch.rand(codes.shape, generator=generator).argsort(0).to(codes.device)
    return codes.gather(0, order)


def ndm(train_codes: Tensor, test_codes: Tensor, training: NDMTraining, progress: Report = silent) -> dict[str, Any]:
    """Trains a discriminator between codes and independently permuted codes; reports DV on held-out codes.

    The quantity is the total correlation, KL(joint || product of marginals), in nats, and the report a lower bound
    of it, but for DV's bias upwards where e^NDM is not small against the number of codes. Codes are standardised
    first, which changes neither (one-to-one maps of single features do not) and lets one learning rate serve codes of
    any scale; the paper takes them as they are. Where features depend so strongly that samples are told apart almost
    without error, the estimate keeps growing with training: whatever stands above `ceiling` says "at least about
    that", and compares codes only if all were trained alike.

    Args:
        train_codes, test_codes: (N, D) float32 on one device.

    Returns:
        `estimate` (the last held-out one), `mean_of_last` and `spread` over the last quarter of the evaluations,
        `train_estimate`, `ceiling` (log of the number of held-out rows), `history`; nats.

    Raises:
        UserError: codes that are not (N, D) with at least two rows and features, no epochs, divergence.
    """
    shapes = [tuple(codes.shape) for codes in (train_codes, test_codes)]
    if any(len(shape) != 2 or min(shape) < 2 for shape in shapes) or shapes[0][1] != shapes[1][1]:
        found = " and ".join(map(str, shapes))
        raise UserError(f"ndm: codes must be (N, D) with N and D at least 2 and the same D, found {found}")
    if training.epochs < 1:
        raise UserError(f"ndm: epochs is {training.epochs}: it must be at least 1")
    standardise = Standardiser.fit(train_codes)
    codes, held_out = standardise(train_codes), standardise(test_codes)
    generator = torch.Generator().manual_seed(training.seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(training.seed)
        discriminator = CodeDiscriminator(codes.shape[1])
    discriminator.to(codes.device)
    optimiser = torch.optim.Adam(discriminator.parameters(), training.learning_rate, training.betas)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, list(training.milestones), gamma=0.1)
    objective = OBJECTIVES[training.objective]
    batch = min(training.batch_size, len(codes))
    due = {round(training.epochs * (k + 1) / training.evaluations) for k in range(training.evaluations)}
    history: list[dict[str, float]] = []
    for epoch in range(1, training.epochs + 1):
        order = torch.randperm(len(codes), generator=generator).to(codes.device)
        for rows in order.split(batch):
            if len(rows) < batch:
                continue
            real, fake = discriminator(codes[rows]), discriminator(independent(codes[rows], generator))
            optimiser.zero_grad(set_to_none=True)
            (-objective(real[None], fake[None])).backward()
            optimiser.step()
        schedule.step()
        if epoch in due:
            train_estimate = float(dv(real.detach()[None], fake.detach()[None]))
            history.append(
                {"epoch": epoch, "estimate": _dv(discriminator, held_out, generator), "train": train_estimate}
            )
            if not math.isfinite(history[-1]["estimate"]):
                otherwise = ", or take --protocol standard, which trains with dv" if training.objective != "dv" else ""
                raise UserError(
                    f"ndm: the estimate is not finite after {epoch} epochs: leave ndm out of --only{otherwise}"
                )
        progress("ndm", epoch / training.epochs)
    last = [entry["estimate"] for entry in history[-max(1, len(history) // 4) :]]
    return {
        "estimate": history[-1]["estimate"],
        "mean_of_last": statistics.fmean(last),
        "spread": statistics.stdev(last) if len(last) > 1 else 0.0,
        "train_estimate": history[-1]["train"],
        "ceiling": math.log(len(held_out)),
        "history": history,
    }


def _dv(discriminator: CodeDiscriminator, codes: Tensor, generator: torch.Generator) -> float:
    with evaluating(discriminator):
        fake = torch.cat([discriminator(independent(codes, generator)) for _ in range(SHUFFLES)])
        return float(dv(discriminator(codes)[None], fake[None]))

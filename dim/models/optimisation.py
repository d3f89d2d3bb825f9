"""What the optimiser of all players is made of: groups of parameters and the course of the learning rate."""

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

from torch import nn

from dim.errors import UserError, at_least, one_of, positive

Schedule = Literal["constant", "cosine"]


def check_optimisation(
    learning_rate: float, betas: tuple[float, float], weight_decay: float, schedule: Schedule, warmup_steps: int
) -> None:
    """Looks whether these settings can train anything.

    Raises:
        UserError: they cannot.
    """
    positive(learning_rate=learning_rate)
    one_of(get_args(Schedule), schedule=schedule)
    at_least(0, warmup_steps=warmup_steps)
    if not all(0 <= beta < 1 for beta in betas):
        raise UserError(f"betas are {betas}: both must be at least 0 and below 1")
    if not (weight_decay >= 0 and weight_decay * learning_rate < 1):
        raise UserError(
            f"weight_decay is {weight_decay}: it must be at least 0 and below 1 / learning_rate ({learning_rate})"
        )


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """For an optimiser: decay is for matrices and filters; biases and the gains and shifts of norms keep their size."""
    if not weight_decay:  # one group, as in checkpoints from before there was decay
        return [{"params": list(model.parameters()), "weight_decay": 0.0}]
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    vectors = [weight for weight in model.parameters() if weight.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def relative_rate(step: int, warmup_steps: int, schedule: Schedule, steps: Callable[[], float]) -> float:
    """The learning rate at a step, relative to the highest: it rises linearly, then stays or goes to zero on a cosine.

    Args:
        steps: how many there are; asked for where it matters alone, after warm-up.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant" or step == 0:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup_steps) / max(1, steps() - warmup_steps))))


def doubts(step: int, warmup_steps: int, schedule: Schedule, steps: float, planned_steps: float | None) -> str | None:
    """What is odd about a run of so many `steps` that begins or goes on at `step`, if anything is.

    Args:
        planned_steps: how many there were to be when the checkpoint that the run goes on from was written.
    """
    if not warmup_steps and schedule == "constant":
        return None
    if warmup_steps >= steps:
        return (
            f"warm-up takes {warmup_steps} steps and the run has {steps:.0f}: the learning rate ends at "
            f"{steps / warmup_steps:.2g} of what was asked for; lower --model.warmup_steps or train longer"
        )
    if schedule == "constant":
        return None
    if steps == math.inf:
        return "a run without a number of epochs or steps has no cosine: the learning rate stays where it is"
    if planned_steps not in (None, steps):
        rate = relative_rate(step, warmup_steps, schedule, lambda: steps)
        return (
            f"the cosine was planned for {planned_steps} steps and is now for {steps:.0f}: the learning rate goes on "
            f"at {rate:.2g} of the highest"
        )
    return None

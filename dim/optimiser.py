"""The optimisers of all methods: Adam, with decoupled weight decay where asked for, and Muon for the matrices."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

OptimiserName = Literal["adam", "muon"]


def build_optimiser(
    model: nn.Module,
    name: OptimiserName,
    learning_rate: float,
    betas: tuple[float, float],
    weight_decay: float,
    fused: bool = True,
) -> torch.optim.Optimizer:
    """For all parameters of a model.

    Args:
        name: adam, or muon for matrices (weights of two dimensions) and adam for filters, biases, gains and shifts.
        learning_rate: of both; Muon's updates are scaled to the size that Adam's have.
        betas: of Adam.
        weight_decay: decoupled; for matrices and filters. Biases and the gains and shifts of norms keep their size.
        fused: Adam's step in one kernel.
    """
    options: dict[str, Any] = {"lr": learning_rate, "betas": tuple(betas), "fused": fused}
    if name == "muon":
        matrices = [weight for weight in model.parameters() if weight.ndim == 2]
        rest = [weight for weight in model.parameters() if weight.ndim != 2]
        muon = torch.optim.Muon(matrices, learning_rate, weight_decay, adjust_lr_fn="match_rms_adamw")
        return Together(muon, torch.optim.AdamW(_groups(rest, weight_decay), **options))
    return torch.optim.AdamW(_groups(list(model.parameters()), weight_decay), **options)


def _groups(weights: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    if not weight_decay:  # one group, as in checkpoints from before there was decay
        return [{"params": weights, "weight_decay": 0.0}]
    filters = [weight for weight in weights if weight.ndim > 1]
    vectors = [weight for weight in weights if weight.ndim <= 1]
    return [{"params": filters, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


class Together(torch.optim.Optimizer):
    """Several optimisers as one, each with groups of its own: one schedule, one state, one step.

    Lightning's automatic optimisation takes a single optimiser, and so do its counters of steps.
    """

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.sizes = [len(part.param_groups) for part in parts]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of each part."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        start = 0
        for part, size in zip(self.parts, self.sizes, strict=True):
            # Loading a checkpoint puts new groups and a new state here.
            part.param_groups, part.state = self.param_groups[start : start + size], self.state
            part.step()
            start += size
        return loss

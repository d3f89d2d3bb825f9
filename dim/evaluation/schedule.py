"""Learning rates of what is fitted on frozen features."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR

from dim.errors import one_of

Decay = Literal["steps", "cosine"]


def schedule(
    optimiser: torch.optim.Optimizer, decay: Decay, milestones: Sequence[int], epochs: int, steps: int
) -> LRScheduler:
    """To be stepped after every batch: a tenth of the rate at each of the `milestones`, or a cosine to 0.

    Args:
        milestones: epochs; a cosine has none.
        steps: batches an epoch.

    Raises:
        UserError: an unknown decay.
    """
    one_of(get_args(Decay), decay=decay)
    if decay == "cosine":
        return CosineAnnealingLR(optimiser, steps * epochs)
    return MultiStepLR(optimiser, [steps * epoch for epoch in milestones], gamma=0.1)

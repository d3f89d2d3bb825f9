"""A guard that finds the first batch whose loss is not finite, without waiting for a device at every one."""

from typing import NamedTuple

import torch
from torch import Tensor

from dim import distributed

NEVER = torch.iinfo(torch.int64).max


class Failure(NamedTuple):
    """The first loss that was not finite, after how many batches of the training, and their images (split's rows)."""

    batch: int
    loss: str
    indices: list[int]


class FiniteGuard:
    """Notes the first batch at which a loss is not finite, or so large that its square is not.

    Adam squares gradients: where these overflow it never moves the weights again, and says nothing.

    Off the CPU looking at a number waits for the device, so the batch is remembered there and looked at by `failure`.
    """

    def __init__(self) -> None:
        self._first_bad: Tensor | None = None
        self._names: list[str] = []
        self._unseen: list[tuple[int, Tensor]] = []

    def note(self, batch: int, losses: dict[str, Tensor], indices: Tensor) -> None:
        """Remembers a batch's losses and images."""
        finite = torch.stack([loss.detach().float().square().isfinite() for loss in losses.values()])
        if self._first_bad is None:
            self._first_bad = torch.full_like(finite, NEVER, dtype=torch.int64)
        self._first_bad = torch.where(finite, self._first_bad, self._first_bad.clamp(max=batch))
        self._names = list(losses)
        self._unseen.append((batch, indices))

    def failure(self) -> Failure | None:
        """Looks at all batches noted since it was asked last; to be called in all processes, which get one answer."""
        if self._first_bad is None:
            return None
        # One process alone must not stop: the others would wait for it.
        first = distributed.gather(self._first_bad[None]).amin(0).tolist()
        batch, name = min(zip(first, self._names, strict=True), key=lambda pair: pair[0])
        if batch == NEVER:
            self._unseen.clear()
            return None
        return Failure(batch, name, distributed.gather(dict(self._unseen)[batch]).tolist())

"""Batches drawn from images that already lie on the device."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dim.data.dataset import Split
from dim.errors import UserError


class Batch(NamedTuple):
    """`images` float32 (N, 3, S, S) in [-1, 1], channels last; `labels` and `indices` (rows of the split) (N,)."""

    images: Tensor
    labels: Tensor
    indices: Tensor


def normalise(images: Tensor) -> Tensor:
    """uint8 (N, 3, S, S) to float32 in [-1, 1], channels last: 0 becomes -1 and 255 becomes 1."""
    return images.to(torch.float32, memory_format=torch.channels_last).div_(127.5).sub_(1)


class DeviceLoader:
    """Iterates over a split in batches; one pass is one epoch.

    The order depends on `seed` and the epoch only. Over the ranks, batch k is cut from the same
    `world_size * batch_size` images, rank 0 first: two processes of 32 see together what one of 64 sees. An
    incomplete last batch is dropped with `drop_last`, else shared out over the ranks; a rank for which no image
    of it is left has one batch fewer, so that none is seen twice.

    Args:
        batch_size: images a batch and process.
        seed: from 0 to 2**32 - 1.
        position: tells (epoch, batches done in it), for a trainer that keeps count itself; it is asked when a
            pass begins and when the state is saved. None: the loader counts the batches it has handed out.

    Raises:
        UserError: if `drop_last` leaves no batch at all, or images are not uint8 (N, 3, S, S) with a label each.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        position: Callable[[], tuple[int, int]] | None = None,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}: it must be at least 1")
        if not 0 <= seed < 2**32:
            raise UserError(f"the data's seed is {seed}: it must be from 0 to 2**32 - 1")
        shape = tuple(split.images.shape)
        if split.images.dtype != torch.uint8 or len(shape) != 4 or shape[1] != 3 or len(split.labels) != shape[0]:
            raise UserError(
                f"images must be uint8 (N, 3, S, S) with N labels, found {split.images.dtype} {shape} with "
                f"{len(split.labels)}"
            )
        self.split = split
        self.shuffle, self.drop_last, self.seed = shuffle, drop_last, seed
        self.rank, self.world_size, self.batch_size = rank, world_size, batch_size
        if drop_last and len(split.labels) < self.global_batch:
            raise UserError(
                f"{len(split.labels)} images are fewer than one batch ({batch_size} in each of "
                f"{world_size} processes): lower batch_size or add images"
            )
        self._position = position
        self._now = self._next = (0, 0)  # (epoch, batch): within the current pass, at the start of the next

    @property
    def global_batch(self) -> int:
        """Images a batch over all processes."""
        return self.batch_size * self.world_size

    def __len__(self) -> int:
        """Batches of one whole epoch on this rank, wherever the next pass begins."""
        full, rest = divmod(len(self.split.labels), self.global_batch)
        rows = self._rows(full)
        return full + (not self.drop_last and rest > 0 and rows.stop > rows.start)

    def __iter__(self) -> Iterator[Batch]:
        # A generator begins at the first batch: Lightning calls iter() before its counters are settled.
        return self._pass()

    def _pass(self) -> Iterator[Batch]:
        epoch, start = self._next if self._position is None else self._position()
        self._now, self._next = (epoch, start), (epoch + 1, 0)
        order = self._order(epoch)
        for batch in range(start, len(self)):
            rows = order[self._rows(batch)]
            self._now = (epoch, batch + 1)
            # Seen with channels last, which is how they lie in memory if the split is so: pixels are copied in one go.
            chosen = self.split.images.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)
            yield Batch(normalise(chosen), self.split.labels[rows], rows)

    def _order(self, epoch: int) -> Tensor:
        """Row numbers in the order of an epoch, on the device."""
        count, device = len(self.split.labels), self.split.labels.device
        if not self.shuffle:
            return torch.arange(count, device=device)
        # RandomState's streams are frozen for good, unlike those of newer generators, and mix seed and epoch.
        permutation = np.random.RandomState([self.seed, epoch]).permutation(count)
        return torch.from_numpy(permutation).to(device, torch.int64)

    def _rows(self, batch: int) -> slice:
        """This rank's cut of a global batch, as places in the order."""
        first = batch * self.global_batch
        size = min(self.global_batch, len(self.split.labels) - first)
        cuts = [first + size * rank // self.world_size for rank in (self.rank, self.rank + 1)]
        return slice(*cuts)

    def state_dict(self) -> dict[str, Any]:
        """Where the next batch comes from, in plain numbers."""
        epoch, batch = self._now if self._position is None else self._position()
        if batch >= len(self):
            epoch, batch = epoch + 1, 0
        return {"epoch": epoch, "batch": batch, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Makes the next pass begin where the saved one stood.

        Raises:
            UserError: if the rest of an epoch would not be the one that was begun.
        """
        for name, value in self._identity().items():
            if state["batch"] and state[name] != value:
                raise UserError(
                    f"the checkpoint was saved within an epoch with {name} {state[name]}, now {name} is {value}: "
                    "resume with the same data settings"
                )
        self._now = self._next = (state["epoch"], state["batch"])

    def _identity(self) -> dict[str, int]:
        return {"seed": self.seed, "global_batch": self.global_batch, "images": len(self.split.labels)}

"""What every source of images gives: two labelled splits of uint8 images, and splits of a split."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from dim.errors import UserError

HASHED = 1000
"""Rows at a time."""


def spread(rows: int, count: int) -> Tensor:
    """`count` of so many row numbers, evenly spaced; all where there are no more."""
    count = min(count, rows)
    return torch.arange(count) * rows // max(1, count)


class Split(NamedTuple):
    """Labelled images: `images` uint8 (N, 3, S, S), `labels` int64 (N,)."""

    images: Tensor
    labels: Tensor

    def rows(self, index: Tensor) -> "Split":
        """The images of the given row numbers, in that order."""
        return Split(self.images[index], self.labels[index])

    def spread(self, count: int) -> "Split":
        """`count` images evenly spaced over the split (or all): of all classes even where they lie in class order."""
        return self.rows(spread(len(self.labels), count).to(self.labels.device))

    def to(self, device: torch.device | str) -> "Split":
        """The split on `device`; itself where it is there already."""
        return Split(self.images.to(device), self.labels.to(device))

    def channels_last(self) -> "Split":
        """The split with its images in the memory layout of batches; itself where they are."""
        return Split(self.images.contiguous(memory_format=torch.channels_last), self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test split; label i is called `classes[i]`."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over shapes, images and labels of both splits: two data sets are equal if this is."""
        return fingerprint((self.train, self.test))


def fingerprint(splits: Iterable[Split]) -> str:
    """SHA-256 (hex) over shapes, images and labels of the splits, in order."""
    digest = hashlib.sha256()
    for split in splits:
        for tensor in split:
            digest.update(repr(tuple(tensor.shape)).encode())
            for block in tensor.split(HASHED):  # of another layout, a copy is made
                digest.update(block.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def split_validation(split: Split, size: int) -> tuple[Split, Split]:
    """(training, validation): `size` images held out, every class in proportion, the same ones each time.

    The choice depends on the labels alone, not on any training seed, so that runs with different seeds are
    compared on the same images. Both parts keep the order of `split`.

    Raises:
        UserError: if `size` is negative or leaves nothing to train on.
    """
    count = len(split.labels)
    if not 0 <= size < count:
        raise UserError(f"validation is {size}: it must be from 0 to {count - 1} of the {count} images")
    if size == 0:
        return split, Split(split.images[:0], split.labels[:0])
    chosen = held_out(split.labels, size)
    return split.rows(~chosen), split.rows(chosen)


def held_out(labels: Tensor, size: int) -> Tensor:
    """Which of the rows with these labels (N,) `split_validation` holds out, (N,) bool."""
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[_stratified(labels.cpu().numpy(), size)] = True
    return chosen.to(labels.device)


def _stratified(labels: np.ndarray, size: int) -> np.ndarray:
    """Row numbers of `size` images: shares by largest remainder, the lower label first in a tie."""
    classes, counts = np.unique(labels, return_counts=True)
    # In integers: floating-point shares could break a tie differently on another machine.
    shares, remainders = np.divmod(counts * size, len(labels))
    shares[np.argsort(-remainders, kind="stable")[: size - shares.sum()]] += 1
    # RandomState's streams are frozen for good; the newer generators' may change with numpy.
    random = np.random.RandomState(0)
    chosen = [
        random.permutation(np.flatnonzero(labels == label))[:share]
        for label, share in zip(classes, shares, strict=True)
    ]
    return np.concatenate(chosen)


def resized(images: Tensor, size: int) -> Tensor:
    """uint8 (N, 3, S, S) to uint8 (N, 3, size, size), bilinear with antialiasing."""
    if images.shape[-1] == size:
        return images
    # In blocks: the interpolation works in float, four times the size of its input.
    return torch.cat([transforms.resize(block, [size, size], antialias=True) for block in images.split(1000)])

"""Data sets by name, those of modules of one's own (dim.extensions) among them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

from dim.data import cifar, digits, folder
from dim.data.dataset import Dataset, Split, held_out, resized, split_validation
from dim.errors import UserError

__all__ = [
    "FIXED",
    "ROOT",
    "Dataset",
    "Split",
    "check",
    "held_out",
    "load_dataset",
    "load_for_encoder",
    "names",
    "resized",
    "source",
    "split_validation",
]

FIXED = ("cifar10", "cifar100", "digits")
"""Those whose name says which images they are."""
ROOT = "data"
Reader = Callable[[Path], Dataset]
_OWN: dict[str, Reader] = {}


def names() -> tuple[str, ...]:
    """What `load_dataset` knows."""
    return (*FIXED, "folder", *_OWN)


def check(source: str) -> None:
    """Raises a UserError if `load_dataset` knows no `source`."""
    if source not in names():
        raise UserError(
            f"there is no data set '{source}': choose one of {', '.join(names())}, or let DIM_IMPORT name the module "
            "of your own"
        )


def source(name: str) -> Callable[[Reader], Reader]:
    """Decorator: offers a data set under `name`, read by a function of its root; its images may have any one size."""

    def register(read: Reader) -> Reader:
        if name in names():
            raise UserError(f"there is a data set '{name}' already: give it another name")
        _OWN[name] = read
        return read

    return register


def load_dataset(
    source: str, root: str | Path = ROOT, download: bool = False, image_size: int | None = None
) -> Dataset:
    """Reads a data set.

    Args:
        source: `cifar10` or `cifar100` (official archive, official files or an image folder under `root`),
            `digits` (scikit-learn's, needs no files), `folder` (train/<class>/ and test/<class>/ or val/<class>/
            in `root`) or the name of one of your own (`source`).
        root: where the data lies, or where a download is put.
        download: whether CIFAR may be fetched if it is not there.
        image_size: side in pixels to resize to; None keeps the images' own (32 for digits).

    Raises:
        UserError: if there is no such data or it is damaged.
    """
    check(source)
    root = Path(root).expanduser()
    if image_size is not None and image_size < 1:
        raise UserError(f"image_size is {image_size}: it must be at least 1 pixel")
    if source == "digits":
        return digits.load(image_size)
    if source in _OWN:
        return _checked(_OWN[source](root), source, image_size)
    if root.exists() and not root.is_dir():
        raise UserError(f"root {root} is a file: give the folder that holds the data")
    if source == "folder":
        return folder.load(root, image_size, "folder")
    return cifar.load(cifar.KINDS[source], root, download, image_size)


def _checked(dataset: Dataset, name: str, image_size: int | None) -> Dataset:
    """A data set of one's own, called `name`, with images of `image_size`.

    Raises:
        UserError: it is not what the rest of the package takes.
    """
    if not isinstance(dataset, Dataset):
        raise UserError(f"the data set '{name}' is a {type(dataset).__name__}: its function must return a Dataset")
    sides = set()
    for part, (images, labels) in (("train", dataset.train), ("test", dataset.test)):
        count, *shape = images.shape
        if images.dtype != torch.uint8 or len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2] or not count:
            found = f"{images.dtype} {tuple(images.shape)}"
            raise UserError(f"{part} images of the data set '{name}' must be uint8 (N, 3, S, S), found {found}")
        if labels.dtype != torch.int64 or labels.shape != (count,):
            found = f"{labels.dtype} {tuple(labels.shape)}"
            raise UserError(f"{part} labels of the data set '{name}' must be int64 ({count},), found {found}")
        if labels.min() < 0 or labels.max() >= len(dataset.classes):
            raise UserError(f"{part} labels of the data set '{name}' must be from 0 to {len(dataset.classes) - 1}")
        sides.add(shape[1])
    if image_size is None and len(sides) > 1:
        raise UserError(f"the data set '{name}' has images of {min(sides)} and {max(sides)} pixels: give image_size")
    size = image_size or sides.pop()
    train, test = (Split(resized(images, size), labels) for images, labels in (dataset.train, dataset.test))
    return dataclasses.replace(dataset, name=name, train=train, test=test)


def load_for_encoder(source: str, root: str | Path, download: bool, image_size: int) -> Dataset:
    """A data set with images of the side that an encoder takes; see `load_dataset`."""
    # CIFAR's own images are not asked to be resized: an image folder of them would be decoded and kept again.
    own = source in cifar.KINDS and image_size == cifar.SIDE
    return load_dataset(source, root, download, None if own else image_size)

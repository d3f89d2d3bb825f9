"""Data sets by name, those of modules of one's own (dim.extensions) among them."""

import dataclasses
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    # Not at the top: the modules that it loads import this one.
    importlib.import_module("dim.extensions")
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
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UserError(f"a data set cannot be called '{name}': folders are called so: letters, numbers, _, . and -")

    def register(read: Reader) -> Reader:
        if name in (*FIXED, "folder", *_OWN):
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
    if not isinstance(dataset, Dataset) or not all(isinstance(each, tuple) for each in (dataset.train, dataset.test)):
        found = type(dataset).__name__
        raise UserError(f"the data set '{name}' is a {found}: its function must return a Dataset of two Splits")
    if not dataset.classes:
        raise UserError(f"the data set '{name}' has no classes: name one for each label")
    sides = set()
    for part, (images, labels) in (("train", dataset.train), ("test", dataset.test)):
        if not _is(images, torch.uint8, 4) or not len(images) or images.shape[1] != 3 or len({*images.shape[2:]}) > 1:
            raise UserError(
                f"{part} images of the data set '{name}' must be a tensor (torch.from_numpy), uint8 (N, 3, S, S), "
                f"found {_described(images)}"
            )
        if not _is(labels, torch.int64, 1) or len(labels) != len(images):
            raise UserError(
                f"{part} labels of the data set '{name}' must be a tensor (torch.from_numpy), int64 "
                f"({len(images)},), found {_described(labels)}"
            )
        if labels.min() < 0 or labels.max() >= len(dataset.classes):
            raise UserError(f"{part} labels of the data set '{name}' must be from 0 to {len(dataset.classes) - 1}")
        sides.add(images.shape[-1])
    if image_size is None and len(sides) > 1:
        raise UserError(f"the data set '{name}' has images of {min(sides)} and {max(sides)} pixels: give image_size")
    size = image_size or sides.pop()
    train, test = (Split(resized(images, size), labels) for images, labels in (dataset.train, dataset.test))
    return dataclasses.replace(dataset, name=name, train=train, test=test)


def _is(values: Any, kind: torch.dtype, dimensions: int) -> bool:
    return isinstance(values, torch.Tensor) and values.dtype == kind and values.ndim == dimensions


def _described(values: Any) -> str:
    if not hasattr(values, "shape"):
        return f"a {type(values).__name__}"
    return f"a {type(values).__name__} of {values.dtype} {tuple(values.shape)}"


def load_for_encoder(source: str, root: str | Path, download: bool, image_size: int) -> Dataset:
    """A data set with images of the side that an encoder takes; see `load_dataset`."""
    # CIFAR's own images are not asked to be resized: an image folder of them would be decoded and kept again.
    own = source in cifar.KINDS and image_size == cifar.SIDE
    return load_dataset(source, root, download, None if own else image_size)

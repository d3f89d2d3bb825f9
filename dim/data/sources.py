"""Data sets by name."""

from pathlib import Path
from typing import Literal

from dim.data import cifar, digits, folder
from dim.data.dataset import Dataset, Split, held_out, resized, split_validation
from dim.errors import UserError

__all__ = [
    "ROOT",
    "Dataset",
    "Source",
    "Split",
    "held_out",
    "load_dataset",
    "load_for_encoder",
    "resized",
    "split_validation",
]

Source = Literal["cifar10", "cifar100", "digits", "folder"]
ROOT = "data"


def load_dataset(
    source: Source, root: str | Path = ROOT, download: bool = False, image_size: int | None = None
) -> Dataset:
    """Reads a data set.

    Args:
        source: `cifar10` or `cifar100` (official archive, official files or an image folder under `root`),
            `digits` (scikit-learn's, needs no files) or `folder` (train/<class>/ and test/<class>/ or val/<class>/
            in `root`).
        root: where the data lies, or where a download is put.
        download: whether CIFAR may be fetched if it is not there.
        image_size: side in pixels to resize to; None keeps the images' own (32 for digits).

    Raises:
        UserError: if there is no such data or it is damaged.
    """
    root = Path(root).expanduser()
    if image_size is not None and image_size < 1:
        raise UserError(f"image_size is {image_size}: it must be at least 1 pixel")
    if source == "digits":
        return digits.load(image_size)
    if root.exists() and not root.is_dir():
        raise UserError(f"root {root} is a file: give the folder that holds the data")
    if source == "folder":
        return folder.load(root, image_size, "folder")
    if source in cifar.KINDS:
        return cifar.load(cifar.KINDS[source], root, download, image_size)
    raise UserError(f"unknown source {source!r}: choose cifar10, cifar100, digits or folder")


def load_for_encoder(source: Source, root: str | Path, download: bool, image_size: int) -> Dataset:
    """A data set with images of the side that an encoder takes; see `load_dataset`."""
    # CIFAR's own images are not asked to be resized: an image folder of them would be decoded and kept again.
    own = source in cifar.KINDS and image_size == cifar.SIDE
    return load_dataset(source, root, download, None if own else image_size)

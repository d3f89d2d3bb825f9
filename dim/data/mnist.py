"""MNIST from the official files (idx, as torchvision keeps them), grey repeated as RGB."""

from pathlib import Path

import torch
from torchvision.datasets import MNIST
from torchvision.datasets.mnist import read_image_file, read_label_file

from dim.data.dataset import Dataset, Split
from dim.errors import UserError

SIZES = {"train": 60_000, "t10k": 10_000}
FILES = [f"{name}-{kind}-ubyte" for name in SIZES for kind in ("images-idx3", "labels-idx1")]


def load(root: str | Path, download: bool = False) -> Dataset:
    """60,000 training and 10,000 test images of 28x28.

    Args:
        root: folder with the four unpacked files, in itself, in raw/ or in MNIST/raw/ (torchvision's place).
        download: whether torchvision may fetch what is not there, into MNIST/raw/.

    Raises:
        UserError: if the files are not there (with the places looked at), cannot be fetched or are damaged.
    """
    root = Path(root).expanduser()
    if root.exists() and not root.is_dir():
        raise UserError(f"root {root} is a file: give the folder that holds MNIST")
    places = [root, root / "raw", root / "MNIST" / "raw"]
    place = next((place for place in places if not _lacking(place)), None)
    if place is None:
        if not download:
            begun = [f"{place} (lacks {_lacking(place)[0]})" for place in places if _lacking(place) != FILES]
            looked = ", ".join(begun or map(str, places))
            raise UserError(f"no MNIST ({FILES[0]} and so on) in {looked}: allow --download")
        try:
            MNIST(str(root), download=True)
        except (RuntimeError, OSError) as error:
            raise UserError(f"could not download MNIST into {root}: {error}") from error
        place = places[-1]
    return Dataset("mnist", _split(place, "train"), _split(place, "t10k"), tuple("0123456789"))


def _lacking(place: Path) -> list[str]:
    return [name for name in FILES if not (place / name).is_file()]


def _split(place: Path, name: str) -> Split:
    try:
        images = read_image_file(str(place / f"{name}-images-idx3-ubyte"))
        labels = read_label_file(str(place / f"{name}-labels-idx1-ubyte"))
    except (AssertionError, ValueError, RuntimeError, TypeError) as error:
        raise UserError(f"the {name} files in {place} are damaged: fetch MNIST again") from error
    count = SIZES[name]
    if images.shape != (count, 28, 28) or labels.shape != (count,):
        raise UserError(f"the {name} files in {place} are not MNIST's {count} images of 28x28: fetch MNIST again")
    return Split(images[:, None].expand(-1, 3, -1, -1), labels.to(torch.int64))

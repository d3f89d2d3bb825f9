"""Image folders: `train/<class>/**/*.png` (or jpg, ...) and `test/` or `val/` of the same form."""

import hashlib
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision.datasets.folder import IMG_EXTENSIONS

from dim.data import cache
from dim.data.dataset import Dataset, Split
from dim.errors import UserError
from dim.progress import progress_bar

_FORMAT = 1  # of the cache: to be raised when decoding changes
_BLOCK = 64  # images a thread decodes before the progress bar moves
_CONVERTIBLE = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}


class _File(NamedTuple):
    path: str  # not a Path: making and comparing 60,000 of those takes seconds
    label: int


def is_image_folder(root: Path) -> bool:
    """Whether `root` has the `train` folder that every image folder has."""
    return (root / "train").is_dir()


def load(root: Path, image_size: int | None, name: str) -> Dataset:
    """Reads an image folder, from the cache if nothing in it has changed since it was decoded.

    Without `image_size` all images must be squares of one size; with it each is cropped around its centre to
    a square and resized (bilinear, antialiased). Grey, palette and CMYK images become RGB; alpha is dropped.

    Raises:
        UserError: names the folder or file that is missing, damaged, too large, or leads out of `root`.
    """
    try:
        train, test, classes = _scan(root)
        key = _key(root, train, test, image_size)
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    if kept := cache.read(key, name):
        return kept
    side = image_size or _common_side(train[0].path)
    pixels = _decode([file.path for file in (*train, *test)], side, image_size is not None)
    labels = torch.tensor([file.label for file in (*train, *test)], dtype=torch.int64)
    cut = len(train)
    splits = Split(pixels[:cut], labels[:cut]), Split(pixels[cut:], labels[cut:])
    dataset = Dataset(name, *splits, classes)
    cache.write(key, dataset)
    return dataset


def flat(root: Path, side: int) -> tuple[torch.Tensor, list[str]]:
    """All images at any depth below a folder, without classes: uint8 (N, 3, side, side), and their paths below it.

    Each is cropped around its centre to a square and resized; sorted by path.

    Raises:
        UserError: as `load`, and where there are none.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: give one that holds images")
    try:
        paths = sorted(_images(root, root))
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    if not paths:
        raise UserError(f"no images below {root}: their names end in {', '.join(IMG_EXTENSIONS)}")
    return _decode(paths, side, resize=True), [Path(path).relative_to(root).as_posix() for path in paths]


def _scan(root: Path) -> tuple[list[_File], list[_File], tuple[str, ...]]:
    """The training files, the test files, and the names of the classes."""
    if not is_image_folder(root):
        raise UserError(f"no image folder at {root}: it needs train/<class>/ and test/<class>/ or val/<class>/")
    held_out = next((part for part in ("test", "val") if (root / part).is_dir()), None)
    if held_out is None:
        raise UserError(f"{root} has train/ but neither test/ nor val/: put held-out images in test/<class>/")
    classes = _class_names(root, root / "train")
    if strangers := sorted(set(_class_names(root, root / held_out)) - set(classes)):
        raise UserError(f"{root / held_out / strangers[0]} is a class that {root / 'train'} lacks")
    train = _files(root, root / "train", classes)
    return train, _files(root, root / held_out, classes), classes


def _class_names(root: Path, part: Path) -> tuple[str, ...]:
    _refuse_way_out(root, part)
    names = sorted(path.name for path in part.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise UserError(f"no class folders in {part}: images belong in {part}/<class>/")
    return tuple(names)


def _files(root: Path, part: Path, classes: tuple[str, ...]) -> list[_File]:
    files = []
    for label, name in enumerate(classes):
        if (part / name).is_dir():
            found = sorted(_images(root, part / name))
            if not found:
                raise UserError(f"no images in {part / name}: add some or take the folder away")
            files += [_File(path, label) for path in found]
    return files


def _images(root: Path, folder: str | Path) -> Iterator[str]:
    """The images at any depth below `folder`; hidden files and links to folders within `root` are passed over."""
    _refuse_way_out(root, folder)
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_symlink() and entry.is_dir():
            _refuse_way_out(root, entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _images(root, entry.path)
        elif entry.name.lower().endswith(IMG_EXTENSIONS) and not entry.is_dir():
            if entry.is_symlink():
                _refuse_way_out(root, entry.path)
            yield entry.path


def _refuse_way_out(root: Path, path: str | Path) -> None:
    if not Path(path).resolve().is_relative_to(root.resolve()):
        raise UserError(f"{path} is a link that leads out of {root}: put what it points to in its place")


def _key(root: Path, train: list[_File], test: list[_File], image_size: int | None) -> str:
    """SHA-256 (hex) of all that decides the outcome, without reading the images."""
    digest = hashlib.sha256(repr((_FORMAT, str(root.resolve()), image_size, len(train))).encode())
    prefix = len(str(root / "train")) - len("train")
    for path, label in (*train, *test):
        status = Path(path).stat()
        relative = path[prefix:].replace(os.sep, "/")
        digest.update(repr((relative, label, status.st_size, status.st_mtime_ns, status.st_ctime_ns)).encode())
    return digest.hexdigest()


def _common_side(path: str) -> int:
    """The side of the first image, which all others must share."""
    width, height = _open(path).size
    if width != height:
        raise UserError(f"{path} is {width}x{height}, not square: give image_size to crop and resize")
    return width


def _decode(paths: list[str], side: int, resize: bool) -> torch.Tensor:
    """uint8 (N, 3, side, side), decoded by a pool of threads straight into place."""
    pixels = np.empty((len(paths), 3, side, side), np.uint8)

    def decode_block(start: int) -> int:
        block = paths[start : start + _BLOCK]
        for row, path in enumerate(block, start):
            image = _open(path)
            if resize:
                image = ImageOps.fit(image, (side, side), Image.Resampling.BILINEAR)
            elif image.size != (side, side):
                raise UserError(
                    f"images of differing sizes: {paths[0]} is {side}x{side}, {path} is "
                    f"{image.width}x{image.height}: give image_size to crop and resize all images"
                )
            pixels[row] = np.asarray(image).transpose(2, 0, 1)
        return len(block)

    with (
        progress_bar("decoding images", len(paths)) as advance,
        warnings.catch_warnings(),
        ThreadPoolExecutor() as pool,
    ):
        # Set here and not in the threads: filters belong to the process.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            for count in pool.map(decode_block, range(0, len(paths), _BLOCK)):
                advance(count)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return torch.from_numpy(pixels)


def _open(path: str) -> Image.Image:
    """The image as RGB, upright; a UserError names a file that cannot be read."""
    try:
        with Image.open(path) as image:
            if image.mode not in _CONVERTIBLE:
                raise UserError(f"{path} has mode {image.mode}, not 8-bit grey or colour: convert it to RGB")
            upright = ImageOps.exif_transpose(image)
            if upright.mode in ("P", "PA"):
                upright = upright.convert("RGBA")  # a palette may hold transparency
            return upright.convert("RGB")
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"{path} is too large to be opened safely: make it smaller or remove it") from error
    except Exception as error:  # decoders raise many kinds of error on damaged files
        raise UserError(f"{path} is not a readable image ({error}): replace or remove it") from error

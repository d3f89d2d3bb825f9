"""Decoded image folders, kept as safetensors so that a second run need not decode them again."""

import json
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from dim.data.dataset import Dataset, Split, fingerprint
from dim.files import replacing


def directory() -> Path:
    """$DIM_CACHE, else $XDG_CACHE_HOME/deep-infomax, else ~/.cache/deep-infomax."""
    if chosen := os.environ.get("DIM_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deep-infomax"


def read(key: str, name: str) -> Dataset | None:
    """The data set kept under `key`, called `name`; None if there is none or if it is damaged."""
    try:
        with safe_open(directory() / f"{key}.safetensors", framework="pt") as file:
            notes = file.metadata()
            train, test = (
                Split(file.get_tensor(f"{part}.images"), file.get_tensor(f"{part}.labels"))
                for part in ("train", "test")
            )
        if fingerprint((train, test)) != notes["fingerprint"]:
            return None
        return Dataset(name, train, test, tuple(json.loads(notes["classes"])))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError):
        return None


def write(key: str, dataset: Dataset) -> None:
    """Keeps the data set under `key`. A cache that cannot be written is no error: it only saves time."""
    tensors = {
        f"{part}.{field}": tensor
        for part, split in (("train", dataset.train), ("test", dataset.test))
        for field, tensor in split._asdict().items()
    }
    notes = {"fingerprint": dataset.fingerprint, "classes": json.dumps(dataset.classes)}
    try:
        with replacing(directory() / f"{key}.safetensors") as file:
            file.write(save(tensors, notes))
    except (OSError, RuntimeError):
        return

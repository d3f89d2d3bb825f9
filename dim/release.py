"""Released encoders: NAME.safetensors, and beside it NAME.json with the hash that it must have.

`dim export` writes them. Reading them needs torch and safetensors alone: no Lightning, no pickle, no network.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

import dim.extensions  # noqa: F401  encoders of one's own are known from here on
from dim.errors import UserError
from dim.networks.encoders import Encoder, rebuild_encoder
from dim.suggestions import nearest

SUFFIX = ".safetensors"
FORMAT = 1
HEADER = "deep_infomax"
"""The one key of the file's header: all facts as one JSON text, since safetensors does not keep keys in order."""
FOLDER = Path(__file__).parent.parent / "checkpoints"
"""The released files of a checkout or an editable install; a wheel has none."""


def names(folder: str | Path | None = None) -> list[str]:
    """The released encoders in a folder, by default the repository's."""
    place = FOLDER if folder is None else Path(folder)
    return sorted(path.stem for path in place.glob(f"*{SUFFIX}"))


def find(name: str | Path, folder: str | Path | None = None) -> Path:
    """The file of a released encoder; `name` may be the path of one itself.

    Raises:
        UserError: there is none of that name.
    """
    path = Path(name)
    if path.suffix == SUFFIX:
        if not path.is_file():
            raise UserError(f"{path} does not exist")
        return path
    place = FOLDER if folder is None else Path(folder)
    known = names(place)
    if not known:
        raise UserError(
            f"{place} holds no released encoders: they are in checkpoints/ of the repository, not in the installed "
            "package; give its path as folder, or the path of a file"
        )
    if str(name) not in known:
        raise UserError(f"there is no '{name}' in {place}{nearest(str(name), known)}")
    return place / f"{name}{SUFFIX}"


def read_record(path: Path) -> dict[str, Any]:
    """What the JSON file beside a released file says of it.

    Raises:
        UserError: it is not there, or is something else.
    """
    beside = path.with_suffix(".json")
    if not beside.is_file():
        raise UserError(f"{path} has no {beside.name} beside it, which records the hash to check: copy both")
    try:
        record = json.loads(beside.read_text("utf-8"))
        if {"sha256", "metadata", "reference", "evaluations"} <= set(record):
            return record
    except (ValueError, TypeError):
        pass
    raise UserError(f"{beside} is not what `dim export` wrote: copy it again, or export again")


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Metadata and weights (as they are stored) of a released file.

    Raises:
        UserError: the file is not the one whose hash was recorded, or is of a later format.
    """
    content, expected = path.read_bytes(), read_record(path)["sha256"]
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise UserError(
            f"{path} is not what was released: its SHA-256 is {found}, {path.with_suffix('.json').name} records "
            f"{expected}; nothing was loaded"
        )
    try:
        # The format: eight bytes with the header's length, the header as JSON, the tensors.
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        metadata = json.loads(header["__metadata__"][HEADER])
        state = safetensors.torch.load(content)
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path} is not a file that `dim export` wrote") from error
    if metadata.get("format_version") != FORMAT:
        raise UserError(f"{path} has format {metadata.get('format_version')}, this package reads {FORMAT}: update it")
    return metadata, state


def as_checkpoint(path: Path) -> dict[str, Any]:
    """A released file as the part of a training checkpoint that it was made of."""
    metadata, state = read(path)
    import yaml  # late: loading an encoder does without

    config = yaml.safe_load(metadata.get("training_config") or "{}")
    held_out = config.get("data", {}).get("init_args", {}).get("validation", 0)
    data = {"source": metadata.get("data"), "image_size": metadata["image_size"], "validation": held_out}
    return {
        "state_dict": {f"encoder.{name}": value for name, value in state.items()},
        "hyper_parameters": {"encoder": metadata["encoder"], "code_size": metadata["code_size"]},
        "datamodule_hyper_parameters": data,
        "epoch": metadata.get("epoch"),
        "global_step": metadata.get("global_step"),
        "run": {
            "name": metadata.get("name"),
            "model": metadata.get("model"),
            "config": metadata.get("training_config"),
        },
    }


def load_pretrained(name: str | Path, folder: str | Path | None = None) -> Encoder:
    """A released encoder, in eval mode: `.features(images)` gives the layers that are probed, each (N, D).

    Images are (N, 3, S, S) RGB, in [-1, 1]; S is the encoder's `image_size`. `features` refuses what is not scaled so.
    The encoder is float32 and channels last on the CPU, whatever the file's precision. Nothing is fetched or unpickled.

    Args:
        name: of a released encoder, or the path of a file that `dim export` wrote.
        folder: where to look for the name; by default checkpoints/ of the repository that this package is run from.

    Raises:
        UserError: no such encoder, or a file that is not the one whose hash was recorded.
    """
    path = find(name, folder)
    metadata, state = read(path)
    return rebuild_encoder(metadata["encoder"], metadata["code_size"], state, path)


def reference(encoder: Encoder) -> list[float]:
    """Y of one fixed ramp from -1 to 1, recorded so that a change of what an encoder computes is noticed."""
    size = encoder.image_size
    ramp = torch.linspace(-1, 1, 3 * size * size).view(1, 3, size, size)
    with torch.no_grad():
        return encoder(ramp)["y"].flatten(1)[0].tolist()

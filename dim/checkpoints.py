"""Checkpoints: written whole or not at all, read without executing anything, turned back into encoders."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from dim import release
from dim.errors import UserError
from dim.files import replacing
from dim.networks.encoders import Encoder, rebuild_encoder

FOLDER, LAST = "checkpoints", "last.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint writer with the file renamed into place once it is complete."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        try:
            with replacing(path) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:
            reason = error if isinstance(error, OSError) else error.__context__  # torch's writer hides it
            if not isinstance(reason, OSError):
                raise
            raise UserError(
                f"cannot write the checkpoint {path} ({reason.strerror or reason}): earlier checkpoints are intact; "
                "free space and resume with --ckpt_path last, or go on elsewhere with --runs FOLDER --ckpt_path "
                f"{Path(path).parent / LAST}"
            ) from error


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint file that `path` names: itself, the last one of a run folder, or a released encoder's."""
    path = Path(path)
    if path.is_file():
        return path
    if not path.exists():
        if str(path) in release.names():
            return release.find(path)
        raise UserError(f"{path} does not exist: give a checkpoint, a released file or the folder of a run")
    candidates = [path / FOLDER / LAST, path / LAST]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise UserError(f"{path} holds no checkpoint: {candidates[0]} is not there (did training start?)")


def home(file: Path) -> Path:
    """Where results of a checkpoint belong: its run's folder if it lies in one, a released NAME's folder NAME."""
    if file.suffix == release.SUFFIX:
        return file.with_suffix("")
    return file.parent.parent if file.parent.name == FOLDER else file.parent


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Everything in a checkpoint, on the CPU; `path` may be a run's folder. Executes no pickled code.

    Raises:
        UserError: where there is none, or it is damaged, or holds more than plain data and tensors.
    """
    file = find_checkpoint(path)
    if file.suffix == release.SUFFIX:
        raise UserError(
            f"{file} holds an encoder alone, with which no training goes on: give a run's checkpoint, or "
            "start a new run from it with --model.init_from"
        )
    try:
        if zipfile.is_zipfile(file) and (entry := _damaged(file)):
            raise UserError(f"{file} is damaged: '{entry}' in it is not what was written")
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{file} is not a checkpoint that can be read safely: it is damaged or holds more than tensors and plain "
            "values (nothing in it was executed)"
        ) from error
    except (RuntimeError, EOFError, zipfile.BadZipFile, OSError, KeyError, ValueError) as error:
        first = next(iter(str(error).splitlines()), "it is empty")
        raise UserError(
            f"{file} is not a whole checkpoint ({first}): take another copy, or an earlier checkpoint of its run"
        ) from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise UserError(f"{file} is not a training checkpoint: it has no state_dict")
    progress = content.get("loops", {}).get("fit_loop", {}).get("epoch_progress", {}).get("current", {})
    if progress.get("ready"):
        content["epoch"] = progress["ready"] - 1  # of one saved when training had ended Lightning says one more
    return content


def _damaged(file: Path) -> str | None:
    """The first entry that is not as torch writes it or whose checksum is wrong: torch does not look."""
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if (
                entry.compress_type != zipfile.ZIP_STORED
                or entry.external_attr
                or entry.file_size != entry.compress_size
            ):
                return entry.filename
        return archive.testzip()


def read_trained(path: str | Path) -> dict[str, Any]:
    """What is known of an encoder: `read_checkpoint`, or as much of it as a released file holds.

    Raises:
        UserError: as `read_checkpoint`; a released file whose hash is not the recorded one.
    """
    file = find_checkpoint(path)
    return release.as_checkpoint(file) if file.suffix == release.SUFFIX else read_checkpoint(file)


def encoder_from(checkpoint: dict[str, Any], name: str | Path = "the checkpoint") -> Encoder:
    """The encoder inside a checkpoint that was read, in eval mode; `name` is for messages."""
    parameters = checkpoint.get("hyper_parameters", {})
    prefix = "encoder."
    state = {
        key.removeprefix(prefix): value for key, value in checkpoint["state_dict"].items() if key.startswith(prefix)
    }
    if not state or not {"encoder", "code_size"} <= set(parameters):
        raise UserError(f"{name} holds no encoder of this package: give a checkpoint that `dim fit` wrote")
    return rebuild_encoder(parameters["encoder"], parameters["code_size"], state, name)


def load_encoder(path: str | Path) -> Encoder:
    """The encoder of a run (its folder), a checkpoint or a released file, rebuilt strictly, in eval mode."""
    return encoder_from(read_trained(path), path)

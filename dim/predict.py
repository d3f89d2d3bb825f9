"""`dim predict`: what an encoder makes of a folder of images, as a file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from dim import cpu
from dim.checkpoints import load_encoder
from dim.data import folder
from dim.devices import choose_device
from dim.errors import UserError
from dim.evaluation.features import encode
from dim.files import replacing
from dim.parsing import parse
from dim.progress import bars

FORMATS = (".npz", ".safetensors")


def predict(
    checkpoint: str,
    images: str,
    output: str = "features.npz",
    layers: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> None:
    """Writes an encoder's features of all images at any depth below a folder, with their file names.

    Images of another size than the encoder's are cropped around their centre and resized. An npz file holds one array
    for each layer and `files`, the paths below the folder; in a safetensors file those are a JSON list in the metadata.

    Args:
        checkpoint: a run's folder or a checkpoint file.
        images: the folder.
        output: the file to write, .npz or .safetensors.
        layers: encoder outputs to write, separated by commas; by default all that the encoder is probed on.
        device: cpu, cuda, cuda:1 ...; auto takes a GPU if there is one.
        overwrite: replace the file if it is there.
    """
    path = Path(output)
    if path.suffix not in FORMATS:
        raise UserError(f"{path} ends in neither {' nor '.join(FORMATS)}: its end says what to write")
    if path.exists() and not overwrite:
        raise UserError(f"{path} is already there: choose another --output, or replace it with --overwrite true")
    encoder, place = load_encoder(checkpoint), choose_device(device)
    wanted = layers.split(",") if layers else encoder.layers
    pixels, files = folder.flat(Path(images), encoder.image_size)
    with bars() as progress:
        features = encode(encoder, pixels, wanted, device=place, output_device="cpu", progress=progress)
    write(path, features, files)
    shapes = ", ".join(f"{layer} {tuple(values.shape)}" for layer, values in features.items())
    print(f"features of {len(files)} images: {path} ({shapes})")


def write(path: Path, features: dict[str, torch.Tensor], files: list[str]) -> None:
    """Features (N, D) by layer and N names, in the format that the file's name ends with."""
    with replacing(path) as file:
        if path.suffix == ".npz":
            arrays: dict[str, Any] = {layer: values.numpy() for layer, values in features.items()}
            np.savez(file, files=np.array(files), **arrays)
        else:
            file.write(save(features, {"files": json.dumps(files)}))


def run(arguments: list[str]) -> None:
    """Runs `dim predict ARGUMENTS`."""
    cpu.tune()
    predict(**parse("dim predict", predict, arguments))

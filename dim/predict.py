"""`dim predict`: what an encoder makes of a folder of images or of a data set, as a file."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save

from dim import cpu
from dim.checkpoints import load_encoder
from dim.data import folder
from dim.data.sources import ROOT, load_for_encoder, names
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
    root: str | None = None,
    split: Literal["train", "test"] | None = None,
    download: bool = False,
    device: str = "auto",
    overwrite: bool = False,
) -> None:
    """Writes an encoder's features of all images at any depth below a folder, with their file names; or of a data set.

    `dim predict dim_local_infonce_cifar10 FOLDER` takes a released encoder. Images of another size than the encoder's
    are cropped around their centre and resized. An npz file holds one array
    for each layer and `files`, the paths below the folder; in a safetensors file those are a JSON list in the metadata.
    Of a data set there are no files but `labels`, int64, in the order of its images.

    Args:
        checkpoint: a run's folder, a checkpoint file, or a released encoder by its name or its NAME.safetensors.
        images: the folder (./NAME for one that is called like a data set), or cifar10, cifar100, digits or
            a data set of your own.
        output: the file to write, .npz or .safetensors.
        layers: encoder outputs to write, separated by commas; by default all that the encoder is probed on.
        root: folder that holds the data set; by default data.
        split: which of the data set's; by default test.
        download: fetch CIFAR if it is not in root.
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
    labels, files = {}, None
    data_sets = [name for name in names() if name != "folder"]
    if images in data_sets:
        dataset = load_for_encoder(images, root or ROOT, download, encoder.image_size)
        pixels, labels["labels"] = getattr(dataset, split or "test")
    elif root or split or download:
        raise UserError(f"{images} is a folder: root, split and download are for {', '.join(data_sets)}")
    else:
        pixels, files = folder.flat(Path(images), encoder.image_size)
    with bars() as progress:
        features = encode(encoder, pixels, wanted, device=place, output_device="cpu", progress=progress)
    write(path, features | labels, files)
    shapes = ", ".join(f"{layer} {tuple(values.shape)}" for layer, values in features.items())
    print(f"features of {len(pixels)} images: {path} ({shapes})")


def write(path: Path, arrays: dict[str, torch.Tensor], files: list[str] | None) -> None:
    """Arrays of N rows by name, and N file names if there are any, in the format that the path ends with."""
    with replacing(path) as file:
        if path.suffix == ".npz":
            content: dict[str, Any] = {name: values.numpy() for name, values in arrays.items()}
            np.savez(file, **content | ({} if files is None else {"files": np.array(files)}))
        else:
            file.write(save(arrays, None if files is None else {"files": json.dumps(files)}))


def run(arguments: list[str]) -> None:
    """Runs `dim predict ARGUMENTS`."""
    cpu.tune()
    predict(**parse("dim predict", predict, arguments))

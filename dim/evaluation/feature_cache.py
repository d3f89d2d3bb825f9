"""Features kept on disk, named after weights, images and what becomes of a few: others are never taken for them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from dim.evaluation.features import encode
from dim.files import replacing
from dim.progress import Report, silent
from dim.version import __version__


def key(encoder: nn.Module, images: Tensor, device: torch.device) -> str:
    """SHA-256 (hex) of the encoder's class and weights, the images, the kind of device and this package's version."""
    digest = hashlib.sha256(f"{__version__} {device.type} {type(encoder).__name__}".encode())
    for name, tensor in [*encoder.state_dict().items(), ("images", images)]:
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def cached(
    encoder: nn.Module,
    images: Tensor,
    layers: Sequence[str],
    device: torch.device,
    folder: Path | None = None,
    progress: Report = silent,
) -> dict[str, Tensor]:
    """`encode`, but layers that `folder` holds are read, and the others are left there; None reads and leaves nothing.

    A file that is damaged is written anew.
    """
    if folder is None:
        return encode(encoder, images, layers, device=device, progress=progress)
    digest, first = key(encoder, images, device), encode(encoder, images[:8], layers, device=device)
    files = {layer: folder / f"{_named(digest, first[layer])}-{layer}.safetensors" for layer in layers}
    kept = {layer: _read(file, layer, len(images), device) for layer, file in files.items()}
    found = {layer: features for layer, features in kept.items() if features is not None}
    if missing := [layer for layer in layers if layer not in found]:
        for layer, features in encode(encoder, images, missing, device=device, progress=progress).items():
            with replacing(files[layer]) as file:
                file.write(save({layer: features.cpu()}))
            found[layer] = features
    return {layer: found[layer] for layer in layers}


def _named(digest: str, features: Tensor) -> str:
    """A name that is another one where an encoder's code has changed and the same weights give other features."""
    return hashlib.sha256(digest.encode() + features.cpu().contiguous().numpy().tobytes()).hexdigest()[:32]


def _read(file: Path, layer: str, rows: int, device: torch.device) -> Tensor | None:
    try:
        features = load_file(file, device=str(device))[layer]
    except (OSError, SafetensorError, KeyError):
        return None
    return features if len(features) == rows else None

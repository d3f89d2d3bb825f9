"""Features of a frozen encoder, their standardisation, and splits of the training rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dim.data.loader import normalise
from dim.devices import exact_products
from dim.errors import UserError
from dim.networks.modes import evaluating
from dim.progress import Report, silent


def scaled(images: Tensor, device: torch.device) -> Tensor:
    """uint8 images (N, 3, S, S) as float32 in [-1, 1] on `device`, channels last."""
    return normalise(images.to(device, non_blocking=True))


def encode(
    encoder: nn.Module,
    images: Tensor,
    layers: Sequence[str],
    batch_size: int = 500,
    device: torch.device | str | None = None,
    output_device: torch.device | str | None = None,
    progress: Report = silent,
) -> dict[str, Tensor]:
    """Flattened features of the chosen layers, from one pass over the images.

    Args:
        encoder: maps float images (B, 3, S, S) in [-1, 1] to a dict of named tensors (B, ...).
        images: (N, 3, S, S) uint8, on any device.
        layers: names in the encoder's dict.
        device: where the encoder runs (it is moved there); by default where it is.
        output_device: where the features are kept; by default where the encoder runs.

    Returns:
        layer -> (N, D) float32, encoder in evaluation mode, without gradients.

    Raises:
        UserError: no images, images that are not uint8 (N, 3, S, S), an unknown layer, NaN or infinity.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or not len(images):
        found = f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
        raise UserError(f"encode: images must be uint8 (N, 3, S, S) with N > 0, found {found}")
    if device is None:
        device = next((p.device for p in encoder.parameters()), images.device)
    device = torch.device(device)
    encoder.to(device)
    dtype = next((p.dtype for p in encoder.parameters()), torch.float32)
    output_device = torch.device(output_device) if output_device is not None else device
    features: dict[str, Tensor] = {}
    finite = {layer: torch.ones((), dtype=torch.bool, device=device) for layer in layers}
    with evaluating(encoder), exact_products():
        for start in range(0, len(images), batch_size):
            outputs = encoder(scaled(images[start : start + batch_size], device).to(dtype))
            for layer in layers:
                if not isinstance(outputs, dict):
                    found = type(outputs).__name__
                    raise UserError(f"encode: the encoder must return a dict of named outputs, not a {found}")
                if layer not in outputs:
                    known = ", ".join(sorted(outputs))
                    raise UserError(f"encode: the encoder has no layer {layer!r}; it has {known}")
                values = outputs[layer].flatten(1).float()
                finite[layer] &= values.isfinite().all()
                if layer not in features:
                    features[layer] = torch.empty(len(images), values.shape[1], device=output_device)
                features[layer][start : start + len(values)] = values
            progress("encoding", min(1.0, (start + batch_size) / len(images)))
    for layer, flag in finite.items():
        if not flag:
            raise UserError(f"encode: layer {layer!r} holds NaN or infinity; the encoder has diverged")
    return features


@dataclass(frozen=True)
class Standardiser:
    """(x - mean) / scale with the training rows' statistics; a constant feature keeps scale 1.

    Attributes:
        mean, scale: (D,) float32.
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def fit(cls, features: Tensor, chunk: int = 4096) -> "Standardiser":
        """Statistics of (N, D) features, accumulated in float64 without a copy of them."""
        mean = sum(part.sum(0, dtype=torch.float64) for part in features.split(chunk)) / len(features)
        square = sum((part - mean).square().sum(0) for part in features.split(chunk)) / len(features)
        scale = square.sqrt()
        # Below float32's resolution around its mean, a feature's variation is rounding.
        constant = scale <= torch.clamp(1e-7 * mean.abs(), min=1e-12)
        return cls(mean.float(), scale.masked_fill(constant, 1.0).float())

    def __call__(self, features: Tensor) -> Tensor:
        """Standardised copy of (N, D) features."""
        return (features - self.mean).div_(self.scale)


def check_splits(name: str, train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor) -> None:
    """Raises UserError unless both splits' features are finite float32 (N, D) of one D, labels int64 from 0 upwards."""
    check_features(f"{name}, training", train, train_labels)
    check_features(f"{name}, test", test, test_labels)
    if train.shape[1] != test.shape[1]:
        raise UserError(f"{name}: training rows have {train.shape[1]} features and test rows {test.shape[1]}")


def check_features(name: str, features: Tensor, labels: Tensor) -> None:
    """Raises UserError unless features are finite float32 (N, D) and labels int64 (N,) from 0 upwards."""
    for what, values in (("features", features), ("labels", labels)):
        if not isinstance(values, Tensor):
            raise UserError(f"{name}: {what} must be a tensor (torch.as_tensor), found {type(values).__name__}")
    if features.ndim != 2 or features.dtype != torch.float32 or not features.numel():
        found = f"{str(features.dtype).removeprefix('torch.')} {tuple(features.shape)}"
        raise UserError(f"{name}: features must be float32 (N, D), found {found}")
    if labels.dtype != torch.int64 or labels.shape != features.shape[:1] or int(labels.min()) < 0:
        found = f"{str(labels.dtype).removeprefix('torch.')} {tuple(labels.shape)}"
        raise UserError(f"{name}: labels must be int64 ({len(features)},) from 0 upwards, found {found}")
    # The sum is finite only if all are, and needs no mask of the features' size.
    if not features.sum().isfinite():
        raise UserError(f"{name}: the features hold NaN or infinity; check the encoder they come from")


def split(rows: int, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Random (kept, held out) row numbers, `fraction` of them held out; on the CPU, so equal everywhere.

    Raises:
        UserError: a side would be empty.
    """
    held = round(rows * fraction)
    if not 0 < held < rows:
        raise UserError(f"cannot hold {fraction:g} of {rows} rows out: both sides need at least one row")
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    return order[held:].sort().values, order[:held].sort().values


def percent(predictions: Tensor, labels: Tensor) -> float:
    """Accuracy in percent."""
    return 100.0 * (predictions == labels).double().mean().item()

"""Reconstruction from a frozen code (Table 4's MS-SSIM): a decoder is fitted on training images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from dim.data.dataset import spread
from dim.devices import exact_products
from dim.errors import UserError
from dim.evaluation.features import scaled
from dim.evaluation.schedule import Decay, schedule
from dim.evaluation.ssim import ms_ssim, settings, ssim, ssim_authors
from dim.files import replacing
from dim.networks.decoders import PROBE_WIDTHS, Decoder
from dim.networks.modes import evaluating
from dim.progress import Report, silent

EVALUATION_ROWS = 500


@dataclass(frozen=True)
class DecoderTraining:
    """How the decoder is fitted. The defaults are a short schedule of this project; see `published`.

    Attributes:
        widths: of the decoder's maps, from 4x4 upwards.
        decay: "cosine" to zero over all steps, or "steps": times 0.1 at each of `milestones` (epochs).
        images: train on so many images, drawn at random; None for all.
    """

    widths: tuple[int, ...] = PROBE_WIDTHS
    epochs: int = 5
    batch_size: int = 64
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.5, 0.999)
    decay: Decay = "cosine"
    milestones: tuple[int, ...] = (50, 100)
    images: int | None = None
    seed: int = 0

    @classmethod
    def published(cls, epochs: int = 150, **changes: Any) -> "DecoderTraining":
        """The authors' learning rates; how many epochs they trained is not published."""
        paper: dict[str, Any] = {"epochs": epochs, "learning_rate": 1e-4, "decay": "steps"}
        return cls(**(paper | changes))


def reconstruction(
    train_codes: Tensor,
    train_images: Tensor,
    test_codes: Tensor,
    test_images: Tensor,
    *,
    training: DecoderTraining,
    picture: str | Path | None = None,
    progress: Report = silent,
) -> dict[str, Any]:
    """Fits a decoder of the codes by mean squared error and compares its images of the test codes.

    Args:
        train_codes, test_codes: (N, C) float32 on one device, where the decoder is trained.
        train_images, test_images: (N, 3, S, S) uint8, on any device.
        picture: where to write a PNG of the first test images above their reconstructions.

    Returns:
        Means over the test images of `ms_ssim`, `ssim`, `ssim_authors` (see `dim.evaluation.ssim`; their
        `settings` are returned too) and `mse`, the squared error of a pixel in [-1, 1]; `train_mse` of every epoch.

    Raises:
        UserError: codes and images do not fit together, no epochs, an image side without a decoder.
    """
    for name, codes, images in (("train", train_codes, train_images), ("test", test_codes, test_images)):
        if codes.ndim != 2 or images.ndim != 4 or len(codes) != len(images) or images.dtype != torch.uint8:
            raise UserError(
                f"reconstruction: {name} codes must be (N, C) and images uint8 (N, 3, S, S), "
                f"found {tuple(codes.shape)} and {images.dtype} {tuple(images.shape)}"
            )
    decoder, losses = fit_decoder(train_codes, train_images, training, progress)
    sums = torch.zeros(4, dtype=torch.float64, device=test_codes.device)
    with evaluating(decoder), exact_products():
        for codes, images in zip(test_codes.split(EVALUATION_ROWS), test_images.split(EVALUATION_ROWS), strict=True):
            truth, made = scaled(images, codes.device), decoder(codes)
            error = (truth - made).square().flatten(1).mean(1)
            columns = (ms_ssim(made, truth), ssim(made, truth), ssim_authors(made, truth), error)
            sums += torch.stack([column.sum(dtype=torch.float64) for column in columns])
        if picture is not None:
            shown = spread(len(test_codes), 40)  # of all classes in class order
            codes, images = test_codes[shown.to(test_codes.device)], test_images[shown.to(test_images.device)]
            write_picture(picture, scaled(images, codes.device), decoder(codes))
    names = ("ms_ssim", "ssim", "ssim_authors", "mse")
    result: dict[str, Any] = dict(zip(names, (sums / len(test_codes)).tolist(), strict=True))
    return {**result, "train_mse": losses, "settings": settings(test_images.shape[-1])}


def fit_decoder(
    codes: Tensor, images: Tensor, training: DecoderTraining, progress: Report = silent
) -> tuple[Decoder, list[float]]:
    """A decoder fitted to codes (N, C) and uint8 images (N, 3, S, S), and its loss in every epoch."""
    chooser = torch.Generator().manual_seed(training.seed)
    rows = torch.randperm(len(codes), generator=chooser)[: training.images]
    if len(rows) < 2 or training.epochs < 1:
        raise UserError(f"reconstruction: nothing to train, {len(rows)} images and {training.epochs} epochs")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(training.seed)
        decoder = Decoder(codes.shape[1], images.shape[-1], training.widths)
    decoder.to(codes.device).to(memory_format=torch.channels_last)
    batch = min(training.batch_size, len(rows))
    steps = len(rows) // batch
    optimiser = torch.optim.Adam(decoder.parameters(), training.learning_rate, training.betas)
    scheduler = schedule(optimiser, training.decay, training.milestones, training.epochs, steps)
    losses = []
    for epoch in range(training.epochs):
        shuffled = rows[torch.randperm(len(rows), generator=chooser)]
        total = torch.zeros((), device=codes.device)
        for step in range(steps):
            chosen = shuffled[step * batch : (step + 1) * batch]
            target = scaled(images[chosen.to(images.device)], codes.device)
            loss = functional.mse_loss(decoder(codes[chosen.to(codes.device)]), target)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            scheduler.step()
            total += loss.detach()
            progress("decoder", (epoch + (step + 1) / steps) / training.epochs)
        losses.append(total.item() / steps)
    return decoder, losses


def write_picture(path: str | Path, originals: Tensor, reconstructions: Tensor, columns: int = 10) -> None:
    """A PNG of originals, each row of them above its reconstructions; (N, 3, S, S) in [-1, 1] each."""
    missing = -len(originals) % columns
    pairs = torch.stack([originals, reconstructions]).float().cpu()
    pairs = functional.pad(pairs, (1, 1, 1, 1, 0, 0, 0, missing), value=1.0)
    side = pairs.shape[-1]
    # (2, rows, columns, 3, S, S) -> (rows, 2, S, columns, S, 3): both rows of a pair, one above the other.
    tiles = pairs.view(2, -1, columns, 3, side, side).permute(1, 0, 4, 2, 5, 3)
    pixels = tiles.reshape(-1, columns * side, 3).add(1).mul(127.5).round().clamp(0, 255).byte()
    with replacing(path) as file:
        Image.fromarray(pixels.numpy()).save(file, format="PNG")

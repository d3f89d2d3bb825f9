"""Autoencoder, VAE and beta-VAE: one family, told apart by the weight of the KL divergence."""

from typing import Any

import torch
from torch import Tensor, nn

from dim.data.loader import Batch
from dim.errors import at_least
from dim.models.base import Model, Step
from dim.networks.decoders import Decoder


def squared_error(reconstructions: Tensor, images: Tensor) -> Tensor:
    """Squared error summed over each image, averaged over images."""
    return (reconstructions - images).square().flatten(1).sum(1).mean()


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, I)) in nats, summed over the code (N, Y), averaged over rows; float32 at least."""
    # e^v - 1 - v of a small v is a difference of near equals, of which half precision leaves nothing.
    mean, log_variance = (side.to(torch.promote_types(side.dtype, torch.float32)) for side in (mean, log_variance))
    return 0.5 * (mean.square() + log_variance.expm1() - log_variance).sum(1).mean()


class Autoencoder(Model):
    """Squared error, plus kl_weight times the KL divergence of the code to N(0, I); Y is the mean.

    Without it the code is deterministic (AE); 1 is the VAE; beta-VAE's beta was not published.

    Args:
        kl_weight: weight of the KL divergence.
    """

    def __init__(self, kl_weight: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        at_least(0, kl_weight=kl_weight)
        self.decoder = Decoder(self.code_size, self.encoder.image_size)
        self.decoder.to(memory_format=torch.channels_last)
        if kl_weight:
            self.log_variance = nn.Linear(self.encoder.shapes()["fc"][0], self.code_size)

    def losses(self, batch: Batch) -> Step:
        outputs = self.encoder(batch.images)
        code, losses = outputs["y"], {}
        if self.hparams["kl_weight"]:
            log_variance = self.log_variance(outputs["fc"])
            losses["kl"] = self.hparams["kl_weight"] * kl_to_standard_normal(code, log_variance)
            noise = self.prior_samples("gaussian", len(code))
            code = code + (0.5 * log_variance).exp() * noise
        losses["reconstruction"] = squared_error(self.decoder(code), batch.images)
        return Step(losses, {})

    def pictures(self, images: Tensor) -> dict[str, Tensor]:
        grids = {"images": images, "reconstructions": self.decoder(self.encoder(images)["y"])}
        if self.hparams["kl_weight"]:
            grids["samples"] = self.decoder(self.prior_samples("gaussian", len(images)))
        return grids

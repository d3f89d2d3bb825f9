"""Adversarial autoencoder: reconstruction, and a code matched to a prior by a discriminator."""

from typing import Any, get_args

import torch
from torch import Tensor

from dim import adversarial
from dim.adversarial import Prior
from dim.data.loader import Batch
from dim.errors import at_least, one_of
from dim.models.autoencoder import squared_error
from dim.models.base import Model, Step
from dim.networks.decoders import Decoder
from dim.networks.discriminators import CodeDiscriminator
from dim.objectives import jsd


class AdversarialAutoencoder(Model):
    """AAE: a deterministic encoder, summed squared error, and non-saturating prior matching on the code.

    Args:
        prior: not published; N(0, I) as in the AAE paper, and as in the VAE beside it.
        adversarial_weight: weight of the encoder's adversarial term.
        gradient_penalty: weight of the discriminator's gradient penalty on prior samples.
    """

    def __init__(
        self,
        prior: Prior = "gaussian",
        adversarial_weight: float = 1.0,
        gradient_penalty: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        one_of(get_args(Prior), prior=prior)
        at_least(0, adversarial_weight=adversarial_weight, gradient_penalty=gradient_penalty)
        self.decoder = Decoder(self.code_size, self.encoder.image_size)
        self.decoder.to(memory_format=torch.channels_last)
        self.discriminator = CodeDiscriminator(self.code_size, (200, 200))

    def losses(self, batch: Batch) -> Step:
        y = self.encoder(batch.images)["y"]
        prior, penalty = self.hparams["prior"], self.hparams["gradient_penalty"]
        real = self.prior_samples(prior, len(y))
        losses, metrics = adversarial.match_prior(self.discriminator, jsd, prior, real, y, penalty)
        losses["prior"] = self.hparams["adversarial_weight"] * losses["prior"]
        losses["reconstruction"] = squared_error(self.decoder(self._decodable(y)), batch.images)
        return Step(losses, metrics)

    def _decodable(self, y: Tensor) -> Tensor:
        # The decoder sees codes where the prior lives, so that it can decode the prior's samples.
        return adversarial.to_prior_domain(self.hparams["prior"], y)

    def pictures(self, images: Tensor) -> dict[str, Tensor]:
        reconstructions = self.decoder(self._decodable(self.encoder(images)["y"]))
        samples = self.decoder(self.prior_samples(self.hparams["prior"], len(images)))
        return {"images": images, "reconstructions": reconstructions, "samples": samples}

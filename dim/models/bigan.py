"""BiGAN: encoder and generator against a discriminator of (image, code) pairs."""

from typing import Any

import torch
from torch import Tensor

from dim import adversarial
from dim.data.loader import Batch
from dim.errors import at_least
from dim.models.base import Model, Step
from dim.networks.decoders import Decoder
from dim.networks.discriminators import JointDiscriminator
from dim.objectives import jsd


class BiGAN(Model):
    """The discriminator tells (x, E(x)) from (G(z), z), z ~ N(0, I); encoder and generator fool it, both directions.

    Args:
        gradient_penalty: weight of the discriminator's gradient penalty on (x, E(x)).
    """

    def __init__(self, gradient_penalty: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        at_least(0, gradient_penalty=gradient_penalty)
        self.generator = Decoder(self.code_size, self.encoder.image_size)
        self.generator.to(memory_format=torch.channels_last)
        self.discriminator = JointDiscriminator(self.encoder.image_size, self.code_size)
        self.discriminator.to(memory_format=torch.channels_last)

    def losses(self, batch: Batch) -> Step:
        z = self.prior_samples("gaussian", len(batch.images))
        encoded = batch.images, self.encoder(batch.images)["y"]
        generated = self.generator(z), z
        judge = adversarial.frozen(self.discriminator)
        # Each is told the other's label: encoded pairs count as generated, generated ones as encoded.
        fooled = {
            "encoder": adversarial.fooling_loss(-judge(*encoded)),
            "generator": adversarial.fooling_loss(judge(*generated)),
        }
        real, penalty = adversarial.penalised_scores(self.discriminator, *encoded)
        fake = self.discriminator(*(side.detach() for side in generated))
        resisted = adversarial.discriminator_loss(jsd, real, fake) + self.hparams["gradient_penalty"] * penalty
        accuracy = adversarial.accuracy(real, fake)
        return Step({**fooled, "discriminator": resisted}, {"discriminator_accuracy": accuracy})

    def pictures(self, images: Tensor) -> dict[str, Tensor]:
        reconstructions = self.generator(self.encoder(images)["y"])
        samples = self.generator(self.prior_samples("gaussian", len(images)))
        return {"images": images, "reconstructions": reconstructions, "samples": samples}

"""LightningModules, one method a file. Every one of them has `.encoder`."""

from dim.models.adversarial_autoencoder import AdversarialAutoencoder
from dim.models.autoencoder import Autoencoder
from dim.models.base import Model
from dim.models.bigan import BiGAN
from dim.models.deep_infomax import DeepInfoMax
from dim.models.nat import NoiseAsTargets
from dim.models.supervised import Supervised

__all__ = ["AdversarialAutoencoder", "Autoencoder", "BiGAN", "DeepInfoMax", "Model", "NoiseAsTargets", "Supervised"]

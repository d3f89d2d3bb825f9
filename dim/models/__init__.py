"""LightningModules, one method a file. Every one of them has `.encoder`."""

from dim.models.base import Model
from dim.models.deep_infomax import DeepInfoMax
from dim.models.supervised import Supervised

__all__ = ["DeepInfoMax", "Model", "Supervised"]

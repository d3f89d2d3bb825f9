"""Fully supervised: the same encoder with a linear classifier on the code (table 1, first row)."""

from typing import Any

from torch import nn
from torch.nn.functional import cross_entropy

from dim.data.loader import Batch
from dim.models.base import Model, Step


class Supervised(Model):
    """Cross-entropy of a linear classifier on Y. The paper says no more than "similar architecture".

    Args:
        num_classes: number of classes; filled in from the data by the command line.
    """

    def __init__(self, num_classes: int = 10, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classifier = nn.Linear(self.code_size, num_classes)

    def losses(self, batch: Batch) -> Step:
        logits = self.classifier(self.encoder(batch.images)["y"])
        accuracy = (logits.argmax(1) == batch.labels).float().mean() * 100
        return Step({"cross_entropy": cross_entropy(logits, batch.labels)}, {"accuracy": accuracy})

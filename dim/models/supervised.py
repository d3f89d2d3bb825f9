"""Fully supervised: the same encoder with a linear classifier on the code (table 1, first row)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dim import distributed
from dim.data.loader import Batch
from dim.devices import waits
from dim.errors import UserError, at_least
from dim.models.base import Model, Step
from dim.networks.modes import evaluating


class Supervised(Model):
    """Cross-entropy of a linear classifier on Y. The paper says no more than "similar architecture".

    After each epoch the test accuracy is logged, with the best so far beside it; the final one is what is
    reported. Checkpoints keep both.

    Args:
        num_classes: number of classes in the data.
    """

    final_accuracy: Tensor
    best_accuracy: Tensor

    def __init__(self, num_classes: int = 10, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        at_least(1, num_classes=num_classes)
        self.classifier = nn.Linear(self.code_size, num_classes)
        self.register_buffer("final_accuracy", torch.zeros(()))
        self.register_buffer("best_accuracy", torch.zeros(()))
        self._measured_at = -1

    def setup(self, stage: str) -> None:
        super().setup(stage)
        classes = getattr(getattr(self.trainer, "datamodule", None), "num_classes", 0)
        if classes > self.classifier.out_features:
            raise UserError(f"the data has {classes} classes: set --model.num_classes {classes}")

    def logits(self, images: Tensor) -> Tensor:
        """Class scores (N, C)."""
        return self.classifier(self.encoder(images)["y"])

    def losses(self, batch: Batch) -> Step:
        logits = self.logits(batch.images)
        accuracy = (logits.argmax(1) == batch.labels).float().mean() * 100
        return Step({"cross_entropy": cross_entropy(logits, batch.labels)}, {"accuracy": accuracy})

    def on_train_epoch_end(self) -> None:
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is None:
            return
        right = torch.zeros(2, device=self.device)
        with evaluating(self):
            for batch in datamodule.predict_dataloader():
                images = batch.images.to(self.classifier.weight.dtype)  # precision bf16-true, 64-true
                hits = self.logits(images).argmax(1) == batch.labels
                right += torch.stack([hits.sum(), torch.full_like(hits.sum(), len(hits))])
        right = distributed.total(right)
        self.final_accuracy.copy_(100 * right[0] / right[1])
        self.best_accuracy.copy_(torch.maximum(self.best_accuracy, self.final_accuracy))
        self._measured_at = self.trainer.global_step
        self.log("test_accuracy", self.final_accuracy, prog_bar=not waits(self.final_accuracy))
        self.log("best_test_accuracy", self.best_accuracy)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self._measured_at == self.trainer.global_step:  # else the accuracy is of other weights
            final, best = float(self.final_accuracy), float(self.best_accuracy)
            checkpoint["classifier"] = {"accuracy": final, "accuracy_best": best}

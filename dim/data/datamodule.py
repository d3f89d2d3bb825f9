"""The data sets as Lightning sees them."""

import dataclasses
from typing import Any

import pytorch_lightning as pl
import torch

from dim.data.loader import DeviceLoader
from dim.data.resume import position, settle
from dim.data.sources import ROOT, Dataset, Split, check, load_dataset, split_validation
from dim.errors import UserError, at_least


class ImageData(pl.LightningDataModule):
    """Images held on the device as uint8, drawn in batches by `DeviceLoader`s.

    Args:
        source: `cifar10`, `cifar100`, `digits`, `folder` for your own train/<class>/ and test/<class>/, or the name of
            a data set that a module of yours has (`dim.data.sources.source`).
        root: folder with the data.
        batch_size: images a batch in EACH process: two processes of 32 train like one of 64.
        validation: images held out of the training split for validation, the same ones for every seed.
        download: fetch CIFAR if it is not in `root`.
        image_size: side in pixels to resize to; None keeps the images' own (32 for digits).
        seed: of the order of the training images.
    """

    def __init__(
        self,
        source: str = "cifar10",
        root: str = ROOT,
        batch_size: int = 64,
        validation: int = 0,
        download: bool = False,
        image_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check(source)
        at_least(1, batch_size=batch_size)
        at_least(0, validation=validation)
        root = str(root)  # checkpoints hold plain types only
        self.save_hyperparameters()
        self._dataset: Dataset | None = None
        self.splits: dict[str, Split] = {}

    @property
    def dataset(self) -> Dataset:
        """The data set as loaded: its training split still contains the validation images."""
        if self._dataset is None:
            raise RuntimeError("the data is not loaded yet: call setup() first")
        return self._dataset

    @property
    def num_classes(self) -> int:
        return len(self.dataset.classes)

    @property
    def image_size(self) -> int:
        """Side in pixels."""
        return self.dataset.train.images.shape[-1]

    def prepare_data(self) -> None:
        """Downloads and decodes, in one process of each node; the others then find it on disk."""
        if self._dataset is None:
            self._dataset = self._load(self.hparams["download"])

    def setup(self, stage: str | None = None) -> None:
        """Loads the data unless this process has it already."""
        if self._dataset is None:
            # With a trainer, prepare_data has downloaded; without one there is one process only.
            self._dataset = self._load(self.hparams["download"] and self.trainer is None)
        if not self.splits:
            train, validation = split_validation(self._dataset.train, self.hparams["validation"])
            self.splits = {"train": train, "validation": validation, "test": self._dataset.test}

    def _load(self, download: bool) -> Dataset:
        options = self.hparams
        dataset = load_dataset(options["source"], options["root"], download, options["image_size"])
        # As loaders take them, so that they lie in memory once.
        train, test = dataset.train.channels_last(), dataset.test.channels_last()
        return dataclasses.replace(dataset, train=train, test=test)

    def train_dataloader(self) -> DeviceLoader:
        trainer = self.trainer
        if trainer is None:
            return self._loader("train", shuffle=True, drop_last=True, seed=self.hparams["seed"])
        settle(trainer)
        return self._loader(
            "train",
            shuffle=not trainer.overfit_batches,  # type: ignore[attr-defined]  # the same batches in every epoch
            drop_last=True,
            seed=self.hparams["seed"],
            position=lambda: position(trainer),
        )

    def val_dataloader(self) -> DeviceLoader | list:
        """The validation images, or no loader at all if `validation` is 0."""
        if self.hparams["validation"]:
            return self._loader("validation", drop_last=True)
        if self.trainer is not None and self.trainer.state.fn == "validate":
            raise UserError("there is no validation split: train with --data.validation IMAGES to have one")
        return []

    def test_dataloader(self) -> DeviceLoader:
        """Whole batches of test images: losses over negatives mean something else in a smaller batch."""
        return self._loader("test", drop_last=True)

    def predict_dataloader(self) -> DeviceLoader:
        """All test images."""
        return self._loader("test")

    def _loader(self, part: str, **options: Any) -> DeviceLoader:
        # Kept, so that each split is laid out, and crosses to the device, once a process.
        self.splits[part] = self.splits[part].channels_last()
        if self.trainer is not None:
            device: torch.device = self.trainer.strategy.root_device
            options |= {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}
            self.splits[part] = self.splits[part].to(device)
        try:
            return DeviceLoader(self.splits[part], self.hparams["batch_size"], **options)
        except UserError as error:
            raise UserError(f"{part} split: {error}") from error

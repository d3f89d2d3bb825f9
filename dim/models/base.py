"""What every method shares: an encoder, one optimiser, randomness that is a function of the step, and a guard."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from dim import distributed
from dim.adversarial import Prior, sample_prior
from dim.checkpoints import find_checkpoint, load_encoder
from dim.data import ImageData
from dim.data.loader import Batch, normalise
from dim.devices import seed_default, to_device, waits
from dim.errors import UserError, at_least
from dim.extensions import EncoderName
from dim.files import sha256, write_json
from dim.models.guard import FiniteGuard
from dim.models.optimisation import Schedule, check_optimisation, doubts, parameter_groups, relative_rate
from dim.networks.batchnorm import use_union_statistics
from dim.networks.encoders import build_encoder
from dim.networks.whitening import whiten
from dim.stepping import due

NOT_FINITE = "not-finite.json"
"""File in a run's folder that names the images of a batch whose loss was not finite."""


class Step(NamedTuple):
    """What a method makes of a batch: named losses, whose sum is minimised, and numbers to watch."""

    losses: dict[str, Tensor]
    metrics: dict[str, Tensor]


def _say(text: str) -> None:
    print(f"dim: {text}", file=sys.stderr)


class Model(pl.LightningModule):
    """Base of all methods; a subclass builds its networks and defines `losses`.

    All players of a method share one optimiser and one backward pass, so that a batch is one counted step:
    what a player must not feel is detached or frozen inside `losses`. Adversaries therefore move at the same time
    instead of in turn (the authors' code alternates). A trainer that clips gradients clips all players' by one norm.

    Args:
        encoder: name of the encoder (conv32 is the paper's for 32x32 images).
        code_size: numbers in the code Y.
        learning_rate: of Adam.
        betas: of Adam.
        weight_decay: decoupled weight decay (AdamW): each step takes the learning rate times this off the matrices and
            filters of all players, as a share of them. The paper has none (docs/recipe.md has what it is worth).
        schedule: constant as in the paper, or cosine decay to zero over the whole run.
        warmup_steps: steps over which the learning rate rises linearly to its value.
        whitening: the first convolution starts from the principal directions of image patches instead of at random.
        init_from: a run, a checkpoint or a released encoder, whose encoder's weights this one starts from, whitening
            or not. Not the paper's.
        union_statistics: on several processes, batch norm uses the statistics of all their batches together.
    """

    takes_global_map = False
    """Whether `y` may be a map of global vectors instead of one code."""
    remedy = "lower the learning rate"
    """What to try where a loss has grown out of all bounds."""

    def __init__(
        self,
        encoder: EncoderName = "conv32",
        code_size: int = 64,
        learning_rate: float = 1e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 0.0,
        schedule: Schedule = "constant",
        warmup_steps: int = 0,
        whitening: bool = False,
        init_from: str | None = None,
        union_statistics: bool = True,
    ) -> None:
        super().__init__()
        check_optimisation(learning_rate, betas, weight_decay, schedule, warmup_steps)
        at_least(1, code_size=code_size)
        self.save_hyperparameters()
        self.encoder = build_encoder(encoder, code_size)
        self.encoder.to(memory_format=torch.channels_last)
        self.code_size = code_size
        if whitening:
            self._drawn_filters = self._first_convolution().weight.detach().cpu().clone()
        self.rng = torch.Generator()
        self.started = False
        """Whether there are weights to go on from, so that `init_from` is not looked at (again)."""
        self.started_from: str | None = None
        """SHA-256 of the file that `init_from` was, kept in checkpoints."""
        self._guard = FiniteGuard()
        self._planned_steps: float | None = None
        shape = self.encoder.shapes()["y"]
        if shape[:1] != (code_size,):
            raise UserError(f"encoder '{encoder}' gives a y of shape {shape}, where code_size is {code_size}")
        if not self.takes_global_map and len(shape) > 1:
            raise UserError(f"encoder '{encoder}' gives a map of global vectors, which only DeepInfoMax takes")

    def check(self, batch_size: int, processes: int, training: bool) -> None:
        """Looks whether batches of so many images in so many processes will do, before any data is read.

        Raises:
            UserError: they will not.
        """
        together = processes if self.hparams["union_statistics"] else 1
        if training and batch_size * together < 2:
            raise UserError("batch norm needs more than one image in a batch: raise --data.batch_size")

    def idle(self) -> list[str]:
        """Options with a value of their own that nothing reads, since what they are of is not there."""
        return []

    def losses(self, batch: Batch) -> Step:
        """The losses of one batch; called in training and in validation."""
        raise NotImplementedError

    def pictures(self, images: Tensor) -> dict[str, Tensor]:
        """Image batches in [-1, 1] worth looking at while training, for fixed images; none by default."""
        return {}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (N, 3, S, S) in [-1, 1] -> the encoder's named outputs."""
        return self.encoder(images)

    def setup(self, stage: str) -> None:
        asked = self.trainer.num_devices * self.trainer.num_nodes
        if self.trainer.world_size != asked:  # Lightning goes on without a word
            raise UserError(
                f"{asked} processes were asked for, but the cluster's job has {self.trainer.world_size}: make its "
                "tasks as many (srun --ntasks-per-node), or set --trainer.devices"
            )
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is not None and "batch_size" in datamodule.hparams:
            self.check(datamodule.hparams["batch_size"], asked, stage == "fit")
        size = getattr(datamodule, "image_size", self.encoder.image_size)
        if size != self.encoder.image_size:
            raise UserError(
                f"encoder '{self.hparams['encoder']}' takes images of {self.encoder.image_size} pixels, the data has "
                f"{size}: choose another --model.encoder or set --data.image_size {self.encoder.image_size}"
            )
        if stage == "fit" and self.hparams["init_from"] and not self.started:
            self._start_from(self.hparams["init_from"])
        if stage == "fit" and self.hparams["whitening"]:
            if not isinstance(datamodule, ImageData):
                raise UserError("whitening looks at training images: train with dim.data.ImageData, or without it")
            first = self._first_convolution()
            # Filters that were trained or loaded since stay as they are. The same in every process; weights that a
            # checkpoint holds are put in afterwards.
            if torch.equal(first.weight.cpu(), self._drawn_filters.to(first.weight.dtype)):
                whiten(first, normalise(datamodule.splits["train"].spread(2000).images))
        if stage == "fit" and self.hparams["union_statistics"] and self.trainer.world_size > 1:
            use_union_statistics(self, cuda=self.trainer.strategy.root_device.type == "cuda")

    def _start_from(self, path: str) -> None:
        """Takes over an encoder's weights, once."""
        self.started = True
        file = find_checkpoint(path)
        self.started_from = sha256(file)
        weights = load_encoder(file).state_dict()
        if sha256(file) != self.started_from:
            raise UserError(f"init_from is {file}, which was written while it was read: wait until its run is done")
        try:
            self.encoder.load_state_dict(weights)
        except RuntimeError as error:
            raise UserError(
                f"init_from is {path}: its encoder is not '{self.hparams['encoder']}' with a code of {self.code_size}: "
                "set --model.encoder and --model.code_size to what it has"
            ) from error

    def _first_convolution(self) -> nn.Conv2d:
        first = next((part for part in self.encoder.modules() if isinstance(part, nn.Conv2d)), None)
        if first is None or first.groups > 1 or isinstance(first.padding, str):
            raise UserError(
                f"whitening needs an encoder that begins with a convolution of one group and padding in numbers: train "
                f"'{self.hparams['encoder']}' without it"
            )
        return first

    def random(self, sample: Callable[[int, torch.Generator], Tensor], rows: int) -> Tensor:
        """`sample(rows, generator)` on this model's device.

        Each process draws for the batches of all and takes its own rows, so that a batch spread over processes
        sees the numbers that it would see on one.
        """
        drawn = sample(rows * distributed.size(), self.rng)
        start = distributed.rank() * rows
        drawn = to_device(drawn[start : start + rows], self.device)
        return drawn.to(next(self.parameters()).dtype) if drawn.is_floating_point() else drawn

    def prior_samples(self, prior: Prior, rows: int) -> Tensor:
        """(rows, Y) samples of the prior on this model's device, drawn as by `random`."""
        return self.random(lambda n, generator: sample_prior(prior, n, self.code_size, generator), rows)

    def reseed(self, epoch: int, batch: int) -> None:
        """Makes all randomness of a step a function of seed, epoch and batch: a resumed run repeats it exactly."""
        seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))
        mixed = int(np.random.SeedSequence([seed, epoch + 1, batch]).generate_state(1, np.uint32)[0])
        self.rng.manual_seed(mixed)
        seed_default(mixed + distributed.rank(), self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.reseed(self.current_epoch, batch_idx)
        step = self.losses(batch)
        self._guard.note(self.trainer.fit_loop.epoch_loop.total_batch_idx, step.losses, batch.indices)
        # Looking waits for a GPU: there it is done when logs or a checkpoint are written.
        if not waits(batch.images) or due(self.trainer, self.trainer.global_step + 1):
            self.stop_if_not_finite()
        total = torch.stack(list(step.losses.values())).sum()
        if self._is_shown(batch_idx):
            self._log("train", total, step)
        return total

    def _is_shown(self, batch_idx: int) -> bool:
        """Whether anyone sees what this step logs: the logger, or who looks at an epoch's first or last numbers.

        Logging takes Lightning milliseconds, as much as a twentieth of a step.
        """
        is_due = due(self.trainer, self.trainer.global_step + 1)
        return is_due or batch_idx == 0 or batch_idx + 1 == self.trainer.num_training_batches

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate("validation", batch, batch_idx)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate("test", batch, batch_idx)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return self.encoder.features(batch.images)

    def _evaluate(self, stage: str, batch: Batch, batch_idx: int) -> None:
        # Outside training the randomness depends on the batch alone, so that epochs are comparable.
        self.reseed(-1, batch_idx)
        step = self.losses(batch)
        self._log(stage, torch.stack(list(step.losses.values())).sum(), step, batch_size=len(batch.images))

    def _log(self, stage: str, total: Tensor, step: Step, **options: Any) -> None:
        values = {**step.losses, **step.metrics}
        # What Lightning's bar shows it asks a GPU for at every batch; `Bar` shows it when logs are written.
        self.log(f"{stage}/loss", total.detach(), prog_bar=not waits(total), sync_dist=True, **options)
        named = {f"{stage}/{name}": value.detach() for name, value in values.items()}
        self.log_dict(named, sync_dist=True, **options)

    def stop_if_not_finite(self) -> None:
        """Stops if a loss of an earlier step was not finite, and writes down which images made it; in all processes.

        Raises:
            UserError: naming the first such batch and its loss.
        """
        failure = self._guard.failure()
        if failure is None:
            return
        where = Path(self.trainer.default_root_dir) / NOT_FINITE
        if self.trainer.is_global_zero:
            write_json(where, {"epoch": self.current_epoch, **failure._asdict()})
        raise UserError(
            f"the loss '{failure.loss}' is not finite after {failure.batch} batches, or too large for Adam: "
            f"checkpoints from before are intact, the batch's image numbers are in {where}; {self.remedy}, in a new "
            "run, which may start from their encoder (--model.init_from)"
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps a checkpoint of spoilt weights from taking the place of a good one.

        Raises:
            UserError: a loss was not finite, or the last step has made a weight so.
        """
        self.stop_if_not_finite()
        checkpoint["started_from"] = self.started_from
        if isinstance(datamodule := getattr(self.trainer, "datamodule", None), ImageData):
            checkpoint["data_fingerprint"] = datamodule.dataset.fingerprint
            if self.trainer.training:
                checkpoint["planned_steps"] = self.trainer.estimated_stepping_batches
        for name, weight in checkpoint.get("state_dict", {}).items():
            if weight.is_floating_point() and not weight.isfinite().all():
                raise UserError(
                    f"the last step made {name} not finite: checkpoints from before are intact; {self.remedy}, in a "
                    "new run"
                )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses to train on with other images than before.

        Raises:
            UserError: the data set is another one.
        """
        self._planned_steps = checkpoint.get("planned_steps")
        self.started_from = checkpoint.get("started_from")
        for group in (group for state in checkpoint.get("optimizer_states", []) for group in state["param_groups"]):
            group["fused"] = self._fused  # a scaler of gradients has asked the optimiser as it is now
        datamodule = getattr(self._trainer, "datamodule", None)
        if not self._resumes() or not isinstance(datamodule, ImageData):
            return
        now = datamodule.dataset.fingerprint
        if checkpoint.get("data_fingerprint", now) != now:
            raise UserError(
                "the checkpoint was trained on other images than these: give the data that it had, or begin a new run"
            )

    def _resumes(self) -> bool:
        """Whether a checkpoint that is loaded is trained on."""
        return self._trainer is not None and bool(self._trainer.training)

    def on_train_start(self) -> None:
        warmup, schedule = self.hparams["warmup_steps"], self.hparams["schedule"]
        steps = self.trainer.estimated_stepping_batches
        doubt = doubts(self.trainer.global_step, warmup, schedule, steps, self._planned_steps)
        if doubt and self.trainer.is_global_zero:
            _say(doubt)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.AdamW(
            parameter_groups(self, self.hparams["weight_decay"]),
            lr=self.hparams["learning_rate"],
            betas=tuple(self.hparams["betas"]),
            fused=self._fused,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @property
    def _fused(self) -> bool | None:
        """True but where gradients are clipped: Lightning cannot do so for a fused optimiser under mixed precision."""
        return None if getattr(self._trainer, "gradient_clip_val", None) else True

    def _rate(self, step: int) -> float:
        """The learning rate at a step, relative to the highest."""
        # The number of steps is asked for late: asking makes Lightning load the data, which must come after a
        # resumed run's counters are restored.
        warmup, schedule = self.hparams["warmup_steps"], self.hparams["schedule"]
        return relative_rate(step, warmup, schedule, lambda: self.trainer.estimated_stepping_batches)

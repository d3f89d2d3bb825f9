"""What TensorBoard shows of a run beside the losses: online probes, vital signs, the code, image grids, and a
summary at the end."""

import contextlib
import time
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.utils import make_grid

from dim import distributed
from dim.data.datamodule import ImageData
from dim.data.loader import Batch, normalise
from dim.devices import waits
from dim.errors import UserError, at_least, positive
from dim.evaluation.features import encode
from dim.evaluation.spectrum import spectrum
from dim.models import Model
from dim.networks.encoders import Encoder
from dim.networks.modes import evaluating
from dim.stepping import due, stepped


def boards(trainer: pl.Trainer) -> list[Any]:
    """The TensorBoard writers of the process that writes."""
    if not trainer.is_global_zero:
        return []
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


class OnlineProbe(Callback):
    """A linear classifier on each layer, trained beside the model on detached features, which it never changes.

    It sees the features of the training batch's first pass through the encoder, standardised by batch statistics, and
    is scored on each batch before it learns from it. Logged as `probe/LAYER`, the share of images recognised since the
    last log. It watches whether features get better; what they are worth, `dim evaluate` says.

    Args:
        layers: which of the encoder's, by default those that `dim evaluate` probes; an empty list turns the probe off.
        learning_rate: of its Adam.
        every_n_steps: it looks at one step in so many: on a CPU a look takes up to a twentieth of a small model's step.

    Raises:
        UserError: the encoder has no such layer.
    """

    def __init__(
        self, layers: Sequence[str] | None = None, learning_rate: float = 1e-3, every_n_steps: int = 2
    ) -> None:
        positive(**{"probe.learning_rate": learning_rate})
        at_least(1, **{"probe.every_n_steps": every_n_steps})
        self.asked, self.learning_rate, self.every_n_steps = layers, learning_rate, every_n_steps
        self.layers: tuple[str, ...] = ()
        self.heads = nn.ModuleDict()
        self.optimiser: torch.optim.Optimizer | None = None
        self._looks = False
        self._features: dict[str, Tensor] | None = None
        self._hook: Any = None
        self._correct: Tensor | None = None
        self._seen = 0

    def check(self, encoder: Encoder) -> None:
        """Looks whether the encoder has the layers asked for, before any data is read."""
        shapes = encoder.shapes()
        for layer in self.asked or ():
            if layer not in shapes:
                raise UserError(f"probe.layers: the encoder has no layer '{layer}'; it has {', '.join(shapes)}")

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        assert isinstance(pl_module, Model)
        self.check(pl_module.encoder)
        shapes = pl_module.encoder.shapes()
        self.layers = tuple(pl_module.encoder.layers if self.asked is None else self.asked)
        classes = trainer.datamodule.num_classes  # type: ignore[attr-defined]
        sizes = {layer: int(torch.Size(shapes[layer]).numel()) for layer in self.layers}
        self.heads = nn.ModuleDict({layer: _head(size, classes) for layer, size in sizes.items()})
        if not self.layers:
            return
        self.heads.to(trainer.strategy.root_device)
        self.optimiser = torch.optim.Adam(self.heads.parameters(), self.learning_rate, fused=True)
        self._correct = torch.zeros(len(self.layers), device=trainer.strategy.root_device)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.heads:
            assert isinstance(pl_module, Model)
            self._hook = pl_module.encoder.register_forward_hook(self._catch)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        # Such steps that logs, after a multiple of steps, have the newest look in them.
        self._looks = (trainer.global_step + 1) % self.every_n_steps == 0

    def _catch(self, module: nn.Module, inputs: Any, outputs: dict[str, Tensor]) -> None:
        if module.training and self._looks and self._features is None:
            self._features = {layer: outputs[layer].detach() for layer in self.layers}

    @torch.enable_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        features, self._features = self._features, None
        if features is not None and len(batch.labels) > 1:  # batch statistics need two images
            self._learn(features, batch)
        if self._seen and trainer.loggers and stepped(trainer) and due(trainer, trainer.global_step):
            self._log(pl_module)

    def _learn(self, features: dict[str, Tensor], batch: Batch) -> None:
        assert self.optimiser is not None
        assert self._correct is not None
        logits = [self.heads[layer](features[layer].flatten(1).float()) for layer in self.layers]
        loss = torch.stack([cross_entropy(each, batch.labels) for each in logits]).sum()
        self._correct += torch.stack([(each.detach().argmax(1) == batch.labels).sum() for each in logits])
        self._seen += len(batch.labels)
        self.optimiser.zero_grad()
        loss.backward()
        for parameter in self.heads.parameters():
            if parameter.grad is not None:
                parameter.grad = distributed.total(parameter.grad) / distributed.size()
        self.optimiser.step()

    def _log(self, pl_module: pl.LightningModule) -> None:
        assert self._correct is not None
        for layer, share in zip(
            self.layers, distributed.total(self._correct) / (self._seen * distributed.size()), strict=True
        ):
            shown = layer == self.layers[-1] and not waits(share)
            pl_module.log(f"probe/{layer}", share, prog_bar=shown, batch_size=1)
        self._correct = torch.zeros_like(self._correct)
        self._seen = 0

    def state_dict(self) -> dict[str, Any]:
        if self.optimiser is None:
            return {}
        counts = {"correct": self._correct, "seen": self._seen}
        return {"heads": self.heads.state_dict(), "optimiser": self.optimiser.state_dict(), **counts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.optimiser is None or _shapes(state_dict.get("heads", {})) != _shapes(self.heads.state_dict()):
            return  # other layers or classes than before: the probe starts anew
        assert self._correct is not None
        self.heads.load_state_dict(state_dict["heads"])
        self.optimiser.load_state_dict(state_dict["optimiser"])
        if distributed.size() == 1:  # several processes count anew: the file has the first one's counts alone
            self._correct, self._seen = state_dict["correct"].to(self._correct.device), state_dict["seen"]


def _shapes(state: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}


def _head(size: int, classes: int) -> nn.Sequential:
    """Starts at zero: nothing is drawn, and the model's random numbers stay what they are without it."""
    linear = nn.utils.skip_init(nn.Linear, size, classes)
    for parameter in linear.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(nn.BatchNorm1d(size, affine=False), linear)


class VitalSigns(Callback):
    """Learning rate, gradient norm and images a second of all processes, whenever logs are written."""

    def __init__(self) -> None:
        self._images = 0
        self._since: float | None = None

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if trainer.loggers and due(trainer, trainer.global_step + 1):
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
            scaler = getattr(trainer.precision_plugin, "scaler", None)
            if scaler is not None and optimizer.defaults.get("fused"):
                norm = norm / scaler.get_scale()  # a fused optimiser takes the scale out itself, later
            pl_module.log("watch/gradient_norm", norm)
            pl_module.log("watch/learning_rate", optimizer.param_groups[0]["lr"])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._since = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._since = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        if self._since is None:  # the clock starts where this batch ends: neither an evaluation nor a start counts
            self._images, self._since = 0, time.monotonic()
            return
        self._images += len(batch.images) * trainer.world_size
        if trainer.loggers and stepped(trainer) and due(trainer, trainer.global_step):
            # Where work is queued on a device, what was written at the last log has waited for it, as this will.
            now = time.monotonic()
            pl_module.log("watch/images_per_second", self._images / (now - self._since), batch_size=1)
            self._images, self._since = 0, now


class CodeWatch(Callback):
    """Y of the same test images after each epoch: histogram and effective rank; at the end, the embedding projector.

    Args:
        images: number of test images; 0 turns it off.
    """

    def __init__(self, images: int = 1000) -> None:
        at_least(0, **{"codes.images": images})
        self.images = images

    def _codes(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Tensor:
        assert isinstance(pl_module, Model)
        images = _data(trainer).dataset.test.spread(self.images).images
        return encode(pl_module.encoder, images, ("y",), output_device="cpu")["y"]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.images:
            return
        assert isinstance(pl_module, Model)
        pl_module.stop_if_not_finite()  # in all processes: what follows is done by one
        for board in boards(trainer):
            try:
                codes = self._codes(trainer, pl_module)
            except UserError:  # weights that the last step has spoilt: the next loss will stop the run and say so
                continue
            board.add_histogram("code/y", codes, trainer.global_step)
            try:
                board.add_scalar("code/effective_rank", spectrum(codes)["effective_rank"], trainer.global_step)
            except UserError:  # every image has the same code
                board.add_scalar("code/effective_rank", 0.0, trainer.global_step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.images:
            return
        dataset = _data(trainer).dataset
        shown = dataset.test.spread(self.images)
        names = [dataset.classes[label] for label in shown.labels.tolist()]
        thumbnails = shown.images.cpu().float() / 255
        for board in boards(trainer):
            with contextlib.suppress(UserError):  # codes that are not finite
                board.add_embedding(self._codes(trainer, pl_module), names, thumbnails, trainer.global_step, tag="y")


class Pictures(Callback):
    """Image grids in TensorBoard for models that decode: always the same images, and samples from the same noise.

    Args:
        every_n_epochs: epochs between two grids; 0 for none.
        images: number of images.
    """

    def __init__(self, every_n_epochs: int = 1, images: int = 32) -> None:
        at_least(0, **{"pictures.every_n_epochs": every_n_epochs})
        at_least(1, **{"pictures.images": images})
        self.every_n_epochs = every_n_epochs
        self.images = images

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        last = epoch == trainer.max_epochs or trainer.global_step == trainer.max_steps
        if not self.every_n_epochs or (epoch % self.every_n_epochs and not last):
            return
        assert isinstance(pl_module, Model)
        chosen = _data(trainer).dataset.test.spread(self.images).images.to(pl_module.device)
        images = normalise(chosen).to(next(pl_module.parameters()).dtype)  # precision bf16-true, 64-true
        pl_module.reseed(-1, 0)
        with evaluating(pl_module):
            grids = pl_module.pictures(images)
        for board in boards(trainer):
            for name, batch in grids.items():
                grid = make_grid(batch.float().cpu(), value_range=(-1, 1), normalize=True)
                board.add_image(f"pictures/{name}", grid, trainer.global_step)


class Summary(Callback):
    """The hyper-parameters beside the final losses and probe accuracies: TensorBoard's HPARAMS tab."""

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        final = {
            f"final/{name}": float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith(("train/", "probe/", "validation/"))
        }
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and final:
                options = {**dict(pl_module.hparams), **dict(_data(trainer).hparams), "model": type(pl_module).__name__}
                logger.log_hyperparams(options, final)


def _data(trainer: pl.Trainer) -> ImageData:
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, ImageData)
    return data

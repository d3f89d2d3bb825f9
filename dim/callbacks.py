"""What a run leaves on disk and tells on the way."""

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, Checkpoint, RichProgressBar
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from dim import slurm
from dim.checkpoints import FOLDER, LAST
from dim.errors import UserError, at_least
from dim.files import locked
from dim.provenance import versions
from dim.stepping import due, stepped
from dim.version import __version__


class RunCheckpoint(Checkpoint):
    """Keeps `last.ckpt` fresh and the newest epoch's checkpoint beside it, with config, versions and commits inside.

    An interrupt or SIGTERM lets the current batch finish, saves `last` and stops; resuming then continues with
    the next batch. With several processes, which would not stop at the same batch, it stops at once and `last`
    is what was saved before. SIGUSR1 in a SLURM job does the same and puts the job back into the queue.

    Args:
        every_n_steps: steps between two writes of `last` within an epoch.
        every_n_epochs: keep the checkpoint of each epoch that this number divides; 0 keeps the newest alone.
    """

    def __init__(self, every_n_steps: int = 500, every_n_epochs: int = 0) -> None:
        at_least(1, **{"checkpoint.every_n_steps": every_n_steps})
        at_least(0, **{"checkpoint.every_n_epochs": every_n_epochs})
        self.every_n_steps = every_n_steps
        self.every_n_epochs = every_n_epochs
        self.folder = Path()
        self.run: dict[str, str] = {}
        self.commits: list[str] = []
        self._signal: int | None = None
        self._previous: dict[int, Any] = {}
        self._held = contextlib.ExitStack()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.folder = Path(trainer.default_root_dir) / FOLDER
        self.commits = [versions()["commit"] or f"version {__version__}"] if stage == "fit" else []
        if stage == "fit" and trainer.is_global_zero and self._held.enter_context(locked(self.folder, 0)) is None:
            raise UserError(f"another process is training in {self.folder.parent}: wait for it, or give another --name")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._held.close()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        run, now = checkpoint.get("run", {}), self.commits
        # Files from before commits were kept have their version alone.
        before = run.get("commits") or [f"version {run.get('version', 'unknown')}"]
        if now and before[-1] != now[-1] and trainer.is_global_zero:
            print(f"dim: warning: trained so far by {before[-1]}, from now on by {now[-1]}", file=sys.stderr)
        self.commits = before if before[-1:] == now else [*before, *now]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        made_by = {"version": __version__, "commits": self.commits, "job": slurm.job()}
        checkpoint["run"] = {**self.run, "model": type(pl_module).__name__, **made_by}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            for path in self.folder.glob(f".{LAST}.*"):
                path.unlink()  # half-written by a run that was killed
        # In place of Lightning's own handler, which saves within a step and trains on.
        requeue = [slurm.SIGNAL] if slurm.job() and slurm.SIGNAL else []
        for number in (signal.SIGINT, signal.SIGTERM, *requeue):
            self._previous[number] = signal.getsignal(number)
            signal.signal(number, self._handle if trainer.world_size == 1 else self._interrupt)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restore()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._restore()
        self._held.close()

    def _restore(self) -> None:
        # Before Lightning puts back what it found: the other way round its handler would stay, and with it the run.
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, frame: Any) -> None:
        if self._signal is not None:
            self._interrupt(number, frame)
        self._signal = number
        print("stopping after this batch (again to stop at once)", file=sys.stderr, flush=True)

    @staticmethod
    @rank_zero_only
    def _requeue() -> None:
        wrong = slurm.requeue()
        said = f"cannot requeue the job ({wrong})" if wrong else "the job goes on when its turn comes again"
        print(said, file=sys.stderr, flush=True)

    def _interrupt(self, number: int, frame: Any) -> None:
        if number == slurm.SIGNAL:
            if getattr(rank_zero_only, "rank", 0) != 0:
                return  # an end here could end the first process, too, before it has asked; the cluster ends all
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self._requeue()
        raise SystemExit(128 + number)

    def _save_last(self, trainer: pl.Trainer) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return  # a look whether it runs is no run
        trainer.save_checkpoint(self.folder / LAST, weights_only=False)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if not stepped(trainer):
            return  # gradients that are being gathered are part of no checkpoint
        if self._signal is not None:
            self._save_last(trainer)
            print(f"saved {self.folder / LAST}: resume with --ckpt_path last", file=sys.stderr, flush=True)
            self._interrupt(self._signal, None)
        if trainer.global_step % self.every_n_steps == 0:
            self._save_last(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save_last(trainer)
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            older = sorted(self.folder.glob("epoch=[0-9]*.ckpt"))
            current = self.folder / f"epoch={trainer.current_epoch:04d}.ckpt"
            temporary = current.with_suffix(".tmp")
            temporary.unlink(missing_ok=True)
            try:
                os.link(self.folder / LAST, temporary)
            except OSError:  # a file system without hard links
                shutil.copyfile(self.folder / LAST, temporary)
            temporary.replace(current)
            for path in older:
                digits = path.stem.removeprefix("epoch=")
                epoch = int(digits) if digits.isdigit() else -1
                if epoch < 0:
                    continue  # not a file of ours
                if path != current and not (self.every_n_epochs and (epoch + 1) % self.every_n_epochs == 0):
                    path.unlink()


class Bar(RichProgressBar):
    """Lightning's bar; of numbers that wait for a GPU it shows those of the last step that was logged."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, float] = {}

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        if due(trainer, trainer.global_step):
            found = trainer.callback_metrics
            self._seen = {name: float(found[name]) for name in ("train/loss", "probe/y") if name in found}
        return self._seen | super().get_metrics(trainer, pl_module)


class PlainProgress(Callback):
    """A line each epoch, and every half minute within one, where output is not a terminal."""

    SECONDS = 30.0

    def __init__(self) -> None:
        self._start = self._printed = time.monotonic()
        self._batches = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = self._printed = time.monotonic()
        self._batches = 0  # of this session: a resumed epoch has others behind it

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self._batches += 1
        if time.monotonic() - self._printed > self.SECONDS:
            self._print(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._print(trainer)

    def _print(self, trainer: pl.Trainer) -> None:
        if not trainer.is_global_zero:
            return
        self._printed = time.monotonic()
        epochs = "?" if trainer.max_epochs in (None, -1) else trainer.max_epochs  # -1: steps or time limit it
        speed = self._batches / max(self._printed - self._start, 1e-9)
        batch = f"{trainer.fit_loop.epoch_loop.batch_progress.current.ready}/{trainer.num_training_batches}"
        losses = "  ".join(
            f"{name.removeprefix('train/')} {float(value):.4g}"
            for name, value in trainer.callback_metrics.items()
            if name.startswith("train/")
        )
        print(
            f"epoch {trainer.current_epoch + 1}/{epochs}  batch {batch}  {speed:.2f} batches/s  {losses}",
            flush=True,
        )

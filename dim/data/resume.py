"""Where a training run stands by Lightning's own counters, and what to set right in them to resume it."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loops.loop import _Loop


def position(trainer: pl.Trainer) -> tuple[int, int]:
    """(epoch, batches of it that are done).

    `processed` counts a batch once its optimiser step is taken and before callbacks may save a checkpoint, and
    leaves out a batch that an exception ended: it is right when a pass begins and whenever a state is saved.
    """
    current: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    return trainer.current_epoch, current.processed


def settle(trainer: pl.Trainer) -> None:
    """Puts restored counters into a state from which Lightning continues with the right batch.

    To be called when the training loader is requested: after the counters are restored, before they are used.
    Counters that are right already stay as they are.
    """
    fit = trainer.fit_loop
    epochs: Any = fit.epoch_progress
    batches: Any = fit.epoch_loop.batch_progress
    # A batch that was begun but not processed will be seen again. Lightning takes it back in `current` only, but
    # tells from `total` where a run stopped: left there, it makes a later resumed run one batch longer.
    if batches.current.ready > batches.current.processed:
        batches.is_last_batch = False
    for tracker in (batches.total, batches.current):
        tracker.ready = tracker.started = tracker.processed
    # Saved at the end of an epoch's last batch: Lightning would skip the end of that epoch and not count the next
    # one as begun, so that a run resumed within that one would begin it again.
    if batches.is_last_batch:
        for tracker in (batches.total, batches.current):
            tracker.completed = tracker.processed
    # Stopped by max_steps or max_time within an epoch, which Lightning counts as processed all the same: the rest of it
    # would be left out, and of the last epoch nothing would be done.
    if epochs.current.processed > epochs.current.completed and not batches.is_last_batch and batches.current.processed:
        for tracker in (epochs.total, epochs.current):
            tracker.processed = tracker.completed
        _Loop.restarting.fset(fit, True)  # type: ignore[attr-defined]  # the loop's own setter refuses that
    # Saved at the end of an epoch: with max_steps, Lightning would end the same epoch a second time.
    if epochs.current.processed > epochs.current.completed:
        for tracker in (epochs.total, epochs.current):
            tracker.completed = tracker.processed
        _Loop.restarting.fset(fit, False)  # type: ignore[attr-defined]

"""Which steps of Lightning's trainer are taken, and which are logged."""

import pytorch_lightning as pl


def due(trainer: pl.Trainer, step: int) -> bool:
    """Whether logs are written after so many steps, if there is anyone to write them."""
    every = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return every > 0 and step % every == 0


def stepped(trainer: pl.Trainer) -> bool:
    """Whether the batch that ends has moved the parameters, not only added to their gradients."""
    return not trainer.fit_loop._should_accumulate()

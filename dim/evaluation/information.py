"""I(X; Y) of images and frozen codes by MINE (table 4)."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dim.extensions import ObjectiveName
from dim.mine import MINE
from dim.progress import Report, silent


@dataclass(frozen=True)
class MINETraining:
    """MINE's training: DV and a decaying rate as in the paper; network, steps, rate and batch were not published."""

    bound: ObjectiveName = "dv"
    epochs: float = 50
    batch_size: int = 128
    learning_rate: float = 3e-4
    evaluations: int = 20
    seed: int = 0


def information(
    train_images: Tensor,
    train_codes: Tensor,
    test_images: Tensor,
    test_codes: Tensor,
    training: MINETraining,
    progress: Report = silent,
) -> dict[str, Any]:
    """Mutual information of images (N, 3, S, S) uint8 and codes (N, Y), in nats.

    Returns:
        `estimate` on the test pairs after the last step, its `standard_error`, `mean_of_last` and `spread` over the
        last quarter of the evaluations, `train_estimate` on training batches, `ceiling` (log of the number of test
        pairs: no estimate far above it is a certified bound), and the `history`, a convergence curve.
    """
    mine = MINE(
        bound=training.bound,
        epochs=training.epochs,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        evaluations=training.evaluations,
        patience=None,
        seed=training.seed,
        device=train_codes.device,
        progress=progress,
    )
    mine.fit(train_images, train_codes, test_images, test_codes)
    return {
        "estimate": mine.estimate_,
        "standard_error": mine.standard_error_,
        "mean_of_last": mine.mean_of_last_,
        "spread": mine.spread_,
        "train_estimate": mine.history_[-1]["train"],
        "ceiling": mine.ceiling_,
        "history": mine.history_,
    }

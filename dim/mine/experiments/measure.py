"""One estimate of one pair of variables whose truth is known: a cell of an experiment."""

import dataclasses
import math
import statistics
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch

from dim.extensions import ObjectiveName
from dim.mine import MINE
from dim.mine.estimator import DivergenceError
from dim.mine.kraskov import kraskov
from dim.mine.networks import CriticName
from dim.progress import Report

if TYPE_CHECKING:
    EstimatorName = str
else:
    EstimatorName = Literal[ObjectiveName, "kraskov"]
DIVERGED = "diverged"
NAMES = {"dv": "MINE (dv)", "nwj": "MINE-f (nwj)", "jsd": "dv of a critic by jsd"}


class Pair(Protocol):
    """Variables X and Z that can be drawn and know their mutual information in nats."""

    @property
    def information(self) -> float: ...

    def __call__(self, rows: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]: ...


@dataclasses.dataclass(frozen=True)
class Training:
    """How an estimate is made where pairs can be drawn at will: each step sees fresh ones.

    Attributes:
        steps, batch_size, negatives, learning_rate, critic, widths: as MINE's. One wide hidden layer learns the
            products of components sooner than several.
        test_pairs, test_negatives: fresh pairs for the estimate, and other x that each z of them is scored with.
        kraskov_pairs: pairs that the nearest-neighbour estimator is given.
        neighbours: its k.
    """

    steps: int = 1000
    batch_size: int = 128
    negatives: int = 12
    learning_rate: float = 2e-3
    critic: CriticName = "concat"
    widths: tuple[int, ...] = (512,)
    test_pairs: int = 100_000
    test_negatives: int = 100
    kraskov_pairs: int = 5000
    neighbours: int = 3


def estimate(
    pair: Pair, estimator: EstimatorName, training: Training, seed: int, device: torch.device, progress: Report
) -> dict[str, Any]:
    """The estimate of I(X; Z) by an objective of MINE or by `kraskov`, beside the truth.

    Returns:
        estimate, truth, error, standard_error (of the held-out estimate given the critic) and history; a training
        that diverges has the status `diverged` and no estimate.
    """
    if estimator == "kraskov":
        x, z = pair(training.kraskov_pairs, torch.Generator().manual_seed(seed))
        return result(pair, kraskov(x, z, training.neighbours))
    mine = MINE(
        bound=estimator,
        critic=training.critic,
        widths=training.widths,
        negatives=training.negatives,
        steps=training.steps,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        held_out_negatives=training.test_negatives,
        patience=None,
        evaluations=5,
        seed=seed,
        device=device,
        progress=progress,
    )
    try:
        with warnings.catch_warnings():
            # Tables and plots show the truth and the ceiling.
            warnings.filterwarnings("ignore", message="mine:")
            mine.fit_sampler(pair, training.test_pairs)
    except DivergenceError:
        return {"truth": pair.information, "status": DIVERGED}
    return {**result(pair, mine.estimate_, mine.standard_error_), "history": mine.history_}


def result(pair: Pair, value: float, standard_error: float | None = None) -> dict[str, Any]:
    """A cell's result: the estimate, the truth and their difference."""
    if not math.isfinite(value):
        return {"truth": pair.information, "status": DIVERGED}
    found = {"estimate": value, "truth": pair.information, "error": value - pair.information}
    return found if standard_error is None else {**found, "standard_error": standard_error}


def tolerance(truth: float) -> float:
    """How far an estimate may be from the truth to count as right: 5 %, or 0.1 nat."""
    return max(0.05 * truth, 0.1)


def summary(rows: Sequence[dict[str, Any]], *keys: str) -> list[dict[str, Any]]:
    """Mean, standard deviation over seeds and how many are right, of the rows that agree in `keys`.

    Seeds that diverged are in neither mean nor deviation, and counted.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    found = []
    for group in groups.values():
        values = [row["estimate"] for row in group if "estimate" in row]
        truth = group[0]["truth"]
        found.append(
            {
                **{key: group[0][key] for key in keys},
                "truth": truth,
                "mean": statistics.fmean(values) if values else math.nan,
                "std": statistics.stdev(values) if len(values) > 1 else 0.0,
                "right": sum(abs(value - truth) <= tolerance(truth) for value in values),
                "seeds": len(group),
                "diverged": len(group) - len(values),
            }
        )
    return found

"""All evaluations of a frozen encoder: what each makes of the features, labels and images of both splits."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from dim import plots
from dim.data.dataset import Split
from dim.evaluation.decoder import reconstruction
from dim.evaluation.information import information
from dim.evaluation.knn import NEIGHBOURS, knn
from dim.evaluation.linear import linear
from dim.evaluation.mlp import mlp
from dim.evaluation.ndm import ndm
from dim.evaluation.settings import Protocol
from dim.evaluation.spectrum import spectrum
from dim.evaluation.svm import RUNS, svm
from dim.progress import Report


@dataclasses.dataclass(frozen=True)
class Task:
    """What an evaluation is given: a layer's features, labels and images of both splits, and how to behave.

    Attributes:
        train, test: (N, D) float32.
        pictures: what paths of pictures begin with; None for a task that draws none.
    """

    layer: str
    train: Tensor
    test: Tensor
    train_split: Split
    test_split: Split
    protocol: Protocol
    seed: int
    pictures: str | None
    progress: Report

    def report(self, what: str, done: float) -> None:
        """Progress with the layer's name in it."""
        self.progress(f"{what} ({self.layer})", done)

    def picture(self, name: str) -> Path | None:
        """Where a picture goes, or None."""
        return None if self.pictures is None else Path(f"{self.pictures}{name}-{self.layer}.png")

    @property
    def rows(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Training features and labels, test features and labels."""
        return self.train, self.train_split.labels, self.test, self.test_split.labels


def _mlp(task: Task) -> dict[str, Any]:
    return mlp(*task.rows, dataclasses.replace(task.protocol.mlp, seed=task.seed), task.report)


def _svm(task: Task) -> dict[str, Any]:
    options = {**task.protocol.svm, "seed": task.seed, "progress": task.report}
    found = svm(*task.rows, **options)
    if costs := task.protocol.raw_costs:
        found["raw"] = svm(*task.rows, **{**options, "costs": costs, "standardise": False, "runs": 0})
    return found


def _linear(task: Task) -> dict[str, Any]:
    return linear(*task.rows, seed=task.seed, progress=task.report, **task.protocol.linear)


def _knn(task: Task) -> dict[str, Any]:
    return knn(*task.rows, neighbours=min(NEIGHBOURS, len(task.train)), progress=task.report)


def _rank(task: Task) -> dict[str, Any]:
    return spectrum(task.test)


def _decoder(task: Task) -> dict[str, Any]:
    return reconstruction(
        task.train,
        task.train_split.images,
        task.test,
        task.test_split.images,
        training=dataclasses.replace(task.protocol.decoder, seed=task.seed),
        picture=task.picture("reconstructions"),
        progress=task.progress,
    )


def _mine(task: Task) -> dict[str, Any]:
    training = dataclasses.replace(task.protocol.mine, seed=task.seed)
    images = task.train_split.images, task.test_split.images
    found = information(images[0], task.train, images[1], task.test, training, task.progress)
    curves = {"held-out pairs": (found["history"], "estimate"), "training batches": (found["history"], "train")}
    if place := task.picture("mine"):
        plots.save(plots.convergence(f"MINE of images and {task.layer}", curves, found["ceiling"]), place)
    return found


def _ndm(task: Task) -> dict[str, Any]:
    training = dataclasses.replace(task.protocol.ndm, seed=task.seed)
    plain = ndm(task.train, task.test, training, lambda _, done: task.progress("ndm (linear code)", done))
    sides = task.train.sigmoid(), task.test.sigmoid()
    squashed = ndm(*sides, training, lambda _, done: task.progress("ndm (sigmoid of the code)", done))
    curves = {
        "held-out codes": (plain["history"], "estimate"),
        "training batches": (plain["history"], "train"),
        "held-out, with a sigmoid": (squashed["history"], "estimate"),
    }
    if place := task.picture("ndm"):
        plots.save(plots.convergence(f"NDM of {task.layer}", curves, plain["ceiling"]), place)
    return {**plain, "sigmoid": squashed}


def _mlp_budget(protocol: Protocol) -> str:
    choices = len(protocol.mlp.choices)
    return _epochs(protocol, "mlp") + (f", dropout and decay of {choices} on held-out rows" if choices > 1 else "")


def _svm_budget(protocol: Protocol) -> str:
    costs, runs = protocol.svm.get("costs", ()), protocol.svm.get("runs", RUNS)
    chosen = f"C fixed at {costs[0]:g}" if len(costs) == 1 else f"C of {len(costs)} on held-out rows"
    return f"{chosen}, {runs} runs" + (", and on raw features" if protocol.raw_costs else "")


def _epochs(protocol: Protocol, name: str) -> str:
    return f"{getattr(protocol, name).epochs:g} epochs"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One evaluation.

    Attributes:
        run: a task in, metrics out.
        layers: where it is not for all of them.
        budget: what a protocol lets it spend, in words.
        seeded: whether anything of it depends on the seed; what does not is run once, however many seeds are asked for.
    """

    run: Callable[[Task], dict[str, Any]]
    layers: tuple[str, ...] | None = None
    budget: Callable[[Protocol], str] = lambda protocol: ""
    seeded: Callable[[Protocol], bool] = lambda protocol: True

    def of(self, layers: Iterable[str]) -> list[str]:
        """Those of the layers that it is of."""
        return [layer for layer in layers if self.layers is None or layer in self.layers]


EVALUATIONS: dict[str, Evaluation] = {
    "mlp": Evaluation(_mlp, None, _mlp_budget),
    "svm": Evaluation(_svm, None, _svm_budget),
    # Which rows C is chosen on; a protocol without costs leaves linear its own.
    "linear": Evaluation(_linear, seeded=lambda p: len(p.linear.get("costs", ())) != 1),
    "knn": Evaluation(_knn, seeded=lambda p: False),
    "rank": Evaluation(_rank, ("y",), seeded=lambda p: False),
    "decoder": Evaluation(_decoder, ("y",), lambda p: _epochs(p, "decoder")),
    "mine": Evaluation(_mine, ("y",), lambda p: _epochs(p, "mine")),
    "ndm": Evaluation(_ndm, ("y",), lambda p: f"{_epochs(p, 'ndm')}, with and without a sigmoid"),
}
"""All evaluations. To add one, write its module and an entry here."""
PROBES = ("mlp", "svm", "linear", "knn", "rank")
"""Those that take minutes."""

"""All evaluations of a frozen encoder: what each makes of the features, labels and images of both splits."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dim import plots
from dim.data.dataset import Split
from dim.evaluation.decoder import reconstruction
from dim.evaluation.information import information
from dim.evaluation.knn import knn
from dim.evaluation.linear import linear
from dim.evaluation.mlp import mlp
from dim.evaluation.ndm import ndm
from dim.evaluation.settings import Protocol
from dim.evaluation.spectrum import spectrum
from dim.evaluation.svm import RUNS, svm
from dim.progress import Report


@dataclasses.dataclass(frozen=True)
class Task:
    """What an evaluation is given: features, labels and images of both splits, and how to behave.

    Attributes:
        train, test: layer -> (N, D) float32.
        pictures: what paths of pictures begin with; None for a task that draws none.
    """

    train: Mapping[str, Tensor]
    test: Mapping[str, Tensor]
    train_split: Split
    test_split: Split
    protocol: Protocol
    seed: int
    pictures: str | None
    progress: Report

    def layers(self, names: Iterable[str]) -> "Task":
        """The same with these layers alone."""
        chosen = list(names)
        return dataclasses.replace(
            self, train={n: self.train[n] for n in chosen}, test={n: self.test[n] for n in chosen}
        )

    def report(self, layer: str) -> Report:
        """Progress with the layer's name in it."""
        return lambda what, done: self.progress(f"{what} ({layer})", done)

    def picture(self, name: str) -> Path | None:
        """Where a picture goes, or None."""
        return None if self.pictures is None else Path(self.pictures + name)

    def rows(self, layer: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Training features and labels, test features and labels."""
        return self.train[layer], self.train_split.labels, self.test[layer], self.test_split.labels


LayerResults = dict[str, dict[str, Any]]


def _mlp(task: Task) -> LayerResults:
    probe = dataclasses.replace(task.protocol.mlp, seed=task.seed)
    report = task.report(", ".join(task.train))
    return mlp(task.train, task.train_split.labels, task.test, task.test_split.labels, probe, report)


def _svm(task: Task) -> LayerResults:
    results = {}
    for layer in task.train:
        options = {**task.protocol.svm, "seed": task.seed, "progress": task.report(layer)}
        results[layer] = svm(*task.rows(layer), **options)
        if costs := task.protocol.raw_costs:
            raw = {**options, "costs": costs, "standardise": False, "runs": 0}
            results[layer]["raw"] = svm(*task.rows(layer), **raw)
    return results


def _linear(task: Task) -> LayerResults:
    options = task.protocol.linear
    return {
        layer: linear(*task.rows(layer), seed=task.seed, progress=task.report(layer), **options) for layer in task.train
    }


def _knn(task: Task) -> LayerResults:
    results = {}
    for layer in task.train:
        k = (min(20, len(task.train_split.labels)),)
        found = knn(*task.rows(layer), neighbours=k, progress=task.report(layer))
        results[layer] = {**found, "accuracy": found["accuracy"][0]}
    return results


def _rank(task: Task) -> LayerResults:
    return {layer: spectrum(task.test[layer]) for layer in task.train}


def _decoder(task: Task) -> LayerResults:
    images = task.train_split.images, task.test_split.images
    return {
        layer: reconstruction(
            task.train[layer],
            images[0],
            task.test[layer],
            images[1],
            training=dataclasses.replace(task.protocol.decoder, seed=task.seed),
            picture=task.picture(f"reconstructions-{layer}.png"),
            progress=task.progress,
        )
        for layer in task.train
    }


def _mine(task: Task) -> LayerResults:
    training = dataclasses.replace(task.protocol.mine, seed=task.seed)
    images = task.train_split.images, task.test_split.images
    results = {}
    for layer in task.train:
        found = information(images[0], task.train[layer], images[1], task.test[layer], training, task.progress)
        curves = {"held-out pairs": (found["history"], "estimate"), "training batches": (found["history"], "train")}
        if place := task.picture(f"mine-{layer}.png"):
            plots.save(plots.convergence(f"MINE of images and {layer}", curves, found["ceiling"]), place)
        results[layer] = found
    return results


def _ndm(task: Task) -> LayerResults:
    training = dataclasses.replace(task.protocol.ndm, seed=task.seed)
    results = {}
    for layer in task.train:
        plain = ndm(task.train[layer], task.test[layer], training, task.report("linear code"))
        sides = task.train[layer].sigmoid(), task.test[layer].sigmoid()
        squashed = ndm(*sides, training, task.report("sigmoid of the code"))
        curves = {
            "held-out codes": (plain["history"], "estimate"),
            "training batches": (plain["history"], "train"),
            "held-out, with a sigmoid": (squashed["history"], "estimate"),
        }
        if place := task.picture(f"ndm-{layer}.png"):
            plots.save(plots.convergence(f"NDM of {layer}", curves, plain["ceiling"]), place)
        results[layer] = {**plain, "sigmoid": squashed}
    return results


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
        run: a task in, metrics for each layer out.
        layers: where it is not for all of them.
        budget: what a protocol lets it spend, in words.
        seeded: whether anything of it depends on the seed; what does not is run once, however many seeds are asked for.
    """

    run: Callable[[Task], LayerResults]
    layers: tuple[str, ...] | None = None
    budget: Callable[[Protocol], str] = lambda protocol: ""
    seeded: Callable[[Protocol], bool] = lambda protocol: True


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

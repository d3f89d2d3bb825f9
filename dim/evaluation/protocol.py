"""Which evaluations are run on a frozen encoder, with what settings, and the file that keeps their results."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dim.data.dataset import Dataset, Split
from dim.errors import UserError
from dim.evaluation.decoder import DecoderTraining, reconstruction
from dim.evaluation.features import encode
from dim.evaluation.information import MINETraining, information
from dim.evaluation.knn import knn
from dim.evaluation.linear import linear
from dim.evaluation.mlp import MLPProbe, mlp
from dim.evaluation.ndm import NDMTraining, ndm
from dim.evaluation.progress import Report, silent
from dim.evaluation.spectrum import spectrum
from dim.evaluation.svm import svm
from dim.results import IdentifiedFile

ProtocolName = Literal["quick", "standard", "full"]
Results = dict[str, dict[str, dict[str, Any]]]
"""evaluation -> layer -> metrics."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Settings of every evaluation; two results compare only if these are equal.

    Attributes:
        svm: keyword arguments of `svm`.
        linear: keyword arguments of `linear`.
    """

    mlp: MLPProbe
    svm: Mapping[str, Any]
    linear: Mapping[str, Any]
    decoder: DecoderTraining
    mine: MINETraining
    ndm: NDMTraining


PROTOCOLS: dict[str, Protocol] = {
    # Minutes on two cores: short converged probes, fixed C, estimators that have only begun to settle.
    "quick": Protocol(
        MLPProbe(),
        {"costs": (1e-4,)},
        {"costs": (1e-3,)},
        DecoderTraining(epochs=2, images=10_000),
        MINETraining(epochs=1),
        NDMTraining(epochs=50, learning_rate=1e-3, milestones=(25, 40)),
    ),
    # Under an hour on two cores: C chosen on held-out training images, a decoder and estimators trained for a while.
    "standard": Protocol(
        MLPProbe(epochs=20),
        {"costs": (1e-5, 1e-4, 1e-3)},
        {"costs": (1e-4, 1e-3, 1e-2)},
        DecoderTraining(epochs=2),
        MINETraining(epochs=3),
        NDMTraining(epochs=200, learning_rate=1e-3, milestones=(100, 150)),
    ),
    # The paper's training where it was published.
    "full": Protocol(
        MLPProbe.published(),
        {"loss": "hinge", "costs": (1e-4, 1e-3, 1e-2)},
        {},
        DecoderTraining.published(),
        MINETraining(),
        NDMTraining(),
    ),
}


@dataclasses.dataclass(frozen=True)
class Task:
    """What an evaluation is given: features, labels and images of both splits, and how to behave.

    Attributes:
        train, test: layer -> (N, D) float32.
        folder: where pictures go.
    """

    train: Mapping[str, Tensor]
    test: Mapping[str, Tensor]
    train_split: Split
    test_split: Split
    protocol: Protocol
    seed: int
    folder: Path
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

    def rows(self, layer: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Training features and labels, test features and labels."""
        return self.train[layer], self.train_split.labels, self.test[layer], self.test_split.labels


LayerResults = dict[str, dict[str, Any]]


def _mlp(task: Task) -> LayerResults:
    probe = dataclasses.replace(task.protocol.mlp, seed=task.seed)
    return mlp(task.train, task.train_split.labels, task.test, task.test_split.labels, probe, task.progress)


def _svm(task: Task) -> LayerResults:
    options = task.protocol.svm
    return {
        layer: svm(*task.rows(layer), seed=task.seed, progress=task.report(layer), **options) for layer in task.train
    }


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
            picture=task.folder / f"reconstructions-{layer}.png",
            progress=task.progress,
        )
        for layer in task.train
    }


def _mine(task: Task) -> LayerResults:
    training = dataclasses.replace(task.protocol.mine, seed=task.seed)
    images = task.train_split.images, task.test_split.images
    return {
        layer: information(images[0], task.train[layer], images[1], task.test[layer], training, task.progress)
        for layer in task.train
    }


def _ndm(task: Task) -> LayerResults:
    training = dataclasses.replace(task.protocol.ndm, seed=task.seed)
    results = {}
    for layer in task.train:
        plain = ndm(task.train[layer], task.test[layer], training, task.report("linear code"))
        squashed = task.train[layer].sigmoid(), task.test[layer].sigmoid()
        results[layer] = {**plain, "sigmoid": ndm(*squashed, training, task.report("sigmoid of the code"))}
    return results


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One evaluation: a task in, metrics for each layer out; `layers` where it is not for all of them."""

    run: Callable[[Task], LayerResults]
    layers: tuple[str, ...] | None = None


EVALUATIONS: dict[str, Evaluation] = {
    "mlp": Evaluation(_mlp),
    "svm": Evaluation(_svm),
    "linear": Evaluation(_linear),
    "knn": Evaluation(_knn),
    "rank": Evaluation(_rank, ("y",)),
    "decoder": Evaluation(_decoder, ("y",)),
    "mine": Evaluation(_mine, ("y",)),
    "ndm": Evaluation(_ndm, ("y",)),
}
"""All evaluations. To add one, write its module and an entry here."""
PROBES = ("mlp", "svm", "linear", "knn", "rank")
"""Those that take minutes."""


def combine(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One layer's metrics over seeds: means under the metrics' names, `<metric>_std`, and the single `runs`."""
    if len(runs) == 1:
        return runs[0]
    return {**_means(runs), "runs": list(runs)}


def _means(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    means: dict[str, Any] = {}
    for name, value in runs[0].items():
        values = [run[name] for run in runs]
        if isinstance(value, dict):
            means[name] = _means(values)
        elif isinstance(value, float) and not name.endswith("_std"):
            means[name], means[f"{name}_std"] = statistics.fmean(values), statistics.stdev(values)
    return means


class ResultFile(IdentifiedFile):
    """`evaluation.json`: results of one encoder under one protocol, rewritten whole after each evaluation.

    Args:
        identity: what the results belong to; a file with another identity is kept under another name.
        about: what else the file should say.
        provenance: what each result that is added was made with.
    """

    kind = "evaluation file"

    def __init__(
        self, path: Path, identity: dict[str, Any], about: dict[str, Any], provenance: dict[str, Any] | None = None
    ) -> None:
        self.provenance = provenance or {}
        super().__init__(path, identity, {"wall_time": {}, "provenance": {}, "results": {}}, about)

    @property
    def results(self) -> Results:
        return self.content["results"]

    def missing(self, evaluation: str, layers: Iterable[str]) -> list[str]:
        """Those of `layers` that `evaluation` has no result for."""
        return [layer for layer in layers if layer not in self.results.get(evaluation, {})]

    def add(self, evaluation: str, results: dict[str, dict[str, Any]], seconds: float) -> None:
        """Keeps the results of some layers, on disk at once."""
        self.results.setdefault(evaluation, {}).update(results)
        self.content["provenance"][evaluation] = self.provenance
        times = self.content["wall_time"]
        times[evaluation] = round(times.get(evaluation, 0.0) + seconds, 1)
        self.write()


def evaluate(
    encoder: nn.Module,
    dataset: Dataset,
    file: ResultFile,
    protocol: Protocol,
    only: Sequence[str],
    layers: Sequence[str],
    seeds: Sequence[int],
    device: torch.device,
    progress: Report = silent,
) -> Results:
    """Runs what `file` does not hold yet: each evaluation in `only` on each of `layers`, once for each seed.

    Raises:
        UserError: for an evaluation or a layer that does not exist.
    """
    for name in only:
        if name not in EVALUATIONS:
            raise UserError(f"there is no evaluation '{name}': choose from {', '.join(EVALUATIONS)}")
    plan = {}
    for name in only:
        suited = EVALUATIONS[name].layers
        plan[name] = file.missing(name, [layer for layer in layers if suited is None or layer in suited])
    needed = [layer for layer in layers if any(layer in missing for missing in plan.values())]
    if not needed:
        return file.results
    began = time.monotonic()
    splits = [split.to(device) for split in (dataset.train, dataset.test)]
    train, test = (encode(encoder, split.images, needed, device=device, progress=progress) for split in splits)
    file.content["wall_time"]["encoding"] = round(time.monotonic() - began, 1)
    task = Task(train, test, splits[0], splits[1], protocol, 0, file.path.parent, progress)
    for name, missing in plan.items():
        if missing:
            began = time.monotonic()
            runs = [EVALUATIONS[name].run(dataclasses.replace(task.layers(missing), seed=seed)) for seed in seeds]
            results = {layer: combine([run[layer] for run in runs]) for layer in missing}
            file.add(name, results, time.monotonic() - began)
    return file.results

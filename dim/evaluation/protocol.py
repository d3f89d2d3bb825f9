"""Which evaluations are run on a frozen encoder, with what settings, and the file that keeps their results."""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dim.data.dataset import Dataset
from dim.errors import UserError
from dim.evaluation.features import encode
from dim.evaluation.mlp import MLPProbe, mlp
from dim.evaluation.progress import Report, silent
from dim.evaluation.svm import svm
from dim.files import write_json

ProtocolName = Literal["quick", "full"]
Results = dict[str, dict[str, dict[str, Any]]]
"""evaluation -> layer -> metrics."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Settings of every evaluation; two results compare only if these are equal.

    Attributes:
        probe: the MLP probe's training.
        svm: keyword arguments of `svm`.
    """

    probe: MLPProbe
    svm: Mapping[str, Any]


PROTOCOLS: dict[str, Protocol] = {
    # Minutes on two cores: a short converged probe, C fixed, five runs.
    "quick": Protocol(MLPProbe(), {"costs": (1e-4,)}),
    # The paper's probe; C chosen on held-out training images.
    "full": Protocol(MLPProbe.published(), {}),
}


@dataclasses.dataclass(frozen=True)
class Task:
    """What an evaluation is given: the features of both splits, labels, and how to behave."""

    train: Mapping[str, Tensor]
    test: Mapping[str, Tensor]
    train_labels: Tensor
    test_labels: Tensor
    protocol: Protocol
    seed: int
    progress: Report

    def layers(self, names: Iterable[str]) -> "Task":
        """The same with these layers alone."""
        chosen = list(names)
        return dataclasses.replace(
            self, train={n: self.train[n] for n in chosen}, test={n: self.test[n] for n in chosen}
        )


def _mlp(task: Task) -> dict[str, dict[str, Any]]:
    probe = dataclasses.replace(task.protocol.probe, seed=task.seed)
    return mlp(task.train, task.train_labels, task.test, task.test_labels, probe, task.progress)


def _svm(task: Task) -> dict[str, dict[str, Any]]:
    return {layer: _svm_of_layer(task, layer) for layer in task.train}


def _svm_of_layer(task: Task, layer: str) -> dict[str, Any]:
    def report(what: str, done: float) -> None:
        task.progress(f"{what} ({layer})", done)

    rows = task.train[layer], task.train_labels, task.test[layer], task.test_labels
    return svm(*rows, seed=task.seed, progress=report, **task.protocol.svm)


EVALUATIONS: dict[str, Callable[[Task], dict[str, dict[str, Any]]]] = {"mlp": _mlp, "svm": _svm}
"""Every evaluation: a task in, metrics for each layer out. To add one, write its module and an entry here."""


def combine(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One layer's metrics over seeds: means under the metrics' names, `<metric>_std`, and the single `runs`."""
    if len(runs) == 1:
        return runs[0]
    combined: dict[str, Any] = {}
    for name, value in runs[0].items():
        if isinstance(value, float):
            values = [run[name] for run in runs]
            combined[name], combined[f"{name}_std"] = statistics.fmean(values), statistics.stdev(values)
    return {**combined, "runs": list(runs)}


class ResultFile:
    """`evaluation.json`: results of one encoder under one protocol, rewritten whole after each evaluation.

    Args:
        identity: what the results belong to; a file with another identity is kept under another name.
        about: what else the file should say.
    """

    VERSION = 1

    def __init__(self, path: Path, identity: dict[str, Any], about: dict[str, Any]) -> None:
        self.path = path
        self.content = {
            "schema_version": self.VERSION,
            "identity": json.loads(json.dumps(identity)),
            **about,
            "wall_time": {},
            "results": {},
        }
        if path.exists():
            self._continue(self._read())

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_text("utf-8"))
            if content["schema_version"] != self.VERSION:
                raise UserError(f"{self.path} has schema {content['schema_version']}: choose another --output")
            return content
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.path} is no evaluation file: move it away or choose another --output") from error

    def _continue(self, existing: dict[str, Any]) -> None:
        if existing["identity"] == self.content["identity"]:
            self.content["results"], self.content["wall_time"] = existing["results"], existing["wall_time"]
            return
        number = 1
        while (kept := self.path.with_name(f"{self.path.stem}.{number}{self.path.suffix}")).exists():
            number += 1
        self.path.rename(kept)

    @property
    def results(self) -> Results:
        return self.content["results"]

    def missing(self, evaluation: str, layers: Iterable[str]) -> list[str]:
        """Those of `layers` that `evaluation` has no result for."""
        return [layer for layer in layers if layer not in self.results.get(evaluation, {})]

    def add(self, evaluation: str, results: dict[str, dict[str, Any]], seconds: float) -> None:
        """Keeps the results of some layers, on disk at once."""
        self.results.setdefault(evaluation, {}).update(results)
        times = self.content["wall_time"]
        times[evaluation] = round(times.get(evaluation, 0.0) + seconds, 1)
        write_json(self.path, self.content)


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
    plan = {name: file.missing(name, layers) for name in only}
    needed = [layer for layer in layers if any(layer in missing for missing in plan.values())]
    if not needed:
        return file.results
    began = time.monotonic()
    train, test = (
        encode(encoder, split.images, needed, device=device, progress=progress)
        for split in (dataset.train, dataset.test)
    )
    file.content["wall_time"]["encoding"] = round(time.monotonic() - began, 1)
    labels = dataset.train.labels.to(device), dataset.test.labels.to(device)
    task = Task(train, test, *labels, protocol, 0, progress)
    for name, missing in plan.items():
        if missing:
            began = time.monotonic()
            runs = [EVALUATIONS[name](dataclasses.replace(task.layers(missing), seed=seed)) for seed in seeds]
            results = {layer: combine([run[layer] for run in runs]) for layer in missing}
            file.add(name, results, time.monotonic() - began)
    return file.results

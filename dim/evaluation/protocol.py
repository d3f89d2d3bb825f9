"""Runs the evaluations that a results file does not hold yet, each kept as soon as it is finished."""

import dataclasses
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dim.data.dataset import Dataset
from dim.errors import UserError
from dim.evaluation.battery import EVALUATIONS, PROBES, Evaluation, Task
from dim.evaluation.feature_cache import cached
from dim.evaluation.progress import Report, silent
from dim.evaluation.settings import PROTOCOLS, Protocol, ProtocolName
from dim.results import IdentifiedFile

__all__ = [
    "EVALUATIONS",
    "PROBES",
    "PROTOCOLS",
    "Evaluation",
    "Protocol",
    "ProtocolName",
    "ResultFile",
    "combine",
    "evaluate",
]

SETTINGS = {"cost", "dropout", "weight_decay", "loss", "neighbours", "temperature", "run_fraction", "settings"}
"""What among the metrics says how an evaluation was done."""
Results = dict[str, dict[str, dict[str, Any]]]
"""evaluation -> layer -> metrics."""


def combine(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One layer's metrics over seeds: means under the metrics' names, `<metric>_std`, and the single `runs`.

    A metric that has a `<metric>_std` of its own, the SVM's over its five runs, keeps it (its mean); the deviation over
    seeds is then `<metric>_seeds_std`. Of certificates the worst counts; settings that were chosen are listed.
    """
    if len(runs) == 1:
        return runs[0]
    return {**_means(runs), "runs": list(runs)}


def _means(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    means: dict[str, Any] = {}
    for name, value in runs[0].items():
        values = [run[name] for run in runs]
        if name in SETTINGS:  # one value, or where seeds have chosen differently, each seed's
            means[name] = value if all(each == value for each in values) else values
        elif isinstance(value, dict):
            means[name] = _means(values)
        elif isinstance(value, bool):
            means[name] = all(values)
        elif name == "relative_gap":
            means[name] = max(values)
        elif isinstance(value, float):
            means[name] = statistics.fmean(values)
            if not name.endswith("_std"):
                means[f"{name}_seeds_std" if f"{name}_std" in runs[0] else f"{name}_std"] = statistics.stdev(values)
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
        with self.updating():
            self.results.setdefault(evaluation, {}).update(results)
            self.content["provenance"][evaluation] = self.provenance
            times = self.content["wall_time"]
            times[evaluation] = round(times.get(evaluation, 0.0) + seconds, 1)


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
    cache: Path | None = None,
) -> Results:
    """Runs what `file` does not hold yet: each evaluation in `only` on each of `layers`, once for each seed.

    Args:
        cache: folder that keeps features, see `dim.evaluation.feature_cache`.

    Raises:
        UserError: for an evaluation or a layer that does not exist, or an evaluation that is of none of `layers`.
    """
    for name in only:
        if name not in EVALUATIONS:
            raise UserError(f"there is no evaluation '{name}': choose from {', '.join(EVALUATIONS)}")
    plan = {}
    for name in only:
        suited = EVALUATIONS[name].layers
        if suited is not None and not set(suited) & set(layers):
            raise UserError(f"{name} is of {', '.join(suited)} alone: ask for that layer, or leave {name} out")
        plan[name] = file.missing(name, [layer for layer in layers if suited is None or layer in suited])
    needed = [layer for layer in layers if any(layer in missing for missing in plan.values())]
    if not needed:
        return file.results
    began = time.monotonic()
    splits = [split.to(device) for split in (dataset.train, dataset.test)]
    train, test = (cached(encoder, split.images, needed, device, cache, progress) for split in splits)
    encoding = time.monotonic() - began
    task = Task(train, test, splits[0], splits[1], protocol, 0, file.path.parent, progress)
    for name, planned in plan.items():
        if missing := file.missing(name, planned):  # another process may have been quicker
            began = time.monotonic()
            own = seeds if EVALUATIONS[name].seeded(protocol) else seeds[:1]
            runs = [EVALUATIONS[name].run(dataclasses.replace(task.layers(missing), seed=seed)) for seed in own]
            results = {layer: combine([run[layer] for run in runs]) for layer in missing}
            file.add(name, results, time.monotonic() - began)
    with file.updating():
        file.content["wall_time"]["encoding"] = round(encoding, 1)
    return file.results

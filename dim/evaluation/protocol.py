"""Runs the evaluations that a results file does not hold yet, each kept as soon as it is finished."""

import dataclasses
import math
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dim.data.dataset import Dataset
from dim.errors import UserError
from dim.evaluation.battery import EVALUATIONS, Task
from dim.evaluation.feature_cache import cached
from dim.evaluation.settings import Protocol, picture_prefix
from dim.progress import Report, silent
from dim.results import IdentifiedFile

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


def finite(result: dict[str, Any]) -> dict[str, Any]:
    """The same metrics.

    Raises:
        UserError: one is NaN or infinite, which no results file can hold.
    """

    def look(name: str, value: Any) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"its {name} is {value}")
        if isinstance(value, dict):
            for inner, each in value.items():
                look(inner, each)
        elif isinstance(value, (list, tuple)):
            for each in value:
                look(name, each)

    look("result", result)
    return result


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
            made = self.content["provenance"]
            if evaluation in made and made[evaluation] != self.provenance:
                told = {layer for name in made if name.startswith(f"{evaluation} (") for layer in _layers_in(name)}
                earlier = [layer for layer in self.results[evaluation] if layer not in {*results, *told}]
                if earlier:
                    made[f"{evaluation} ({', '.join(earlier)})"] = made[evaluation]
            self.results.setdefault(evaluation, {}).update(results)
            made[evaluation] = self.provenance
            times = self.content["wall_time"]
            times[evaluation] = round(times.get(evaluation, 0.0) + seconds, 1)


def _layers_in(name: str) -> list[str]:
    """Of `knn (conv, fc)`, what results of earlier layers were made with."""
    return name.partition("(")[2].rstrip(")").split(", ")


def suiting(only: Sequence[str], layers: Sequence[str]) -> dict[str, list[str]]:
    """Each evaluation in `only` with those of `layers` that it is of.

    Raises:
        UserError: for an evaluation that does not exist or is of none of `layers`.
    """
    found = {}
    for name in only:
        if name not in EVALUATIONS:
            raise UserError(f"there is no evaluation '{name}': choose from {', '.join(EVALUATIONS)}")
        suited = EVALUATIONS[name].layers
        found[name] = EVALUATIONS[name].of(layers)
        if suited is not None and not found[name]:
            raise UserError(f"{name} is of {', '.join(suited)} alone: ask for that layer, or leave {name} out")
    return found


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
) -> list[str]:
    """Runs what `file` does not hold yet: each evaluation in `only` on each of `layers`, once for each seed.

    Args:
        cache: folder that keeps features, see `dim.evaluation.feature_cache`.

    Returns:
        What could not be done, and why: an evaluation that fails on a layer takes no other with it.

    Raises:
        UserError: for an evaluation or a layer that does not exist, or an evaluation that is of none of `layers`.
    """
    plan = {name: file.missing(name, its) for name, its in suiting(only, layers).items()}
    needed = [layer for layer in layers if any(layer in missing for missing in plan.values())]
    if not needed:
        return []
    began = time.monotonic()
    train_split, test_split = dataset.train.to(device), dataset.test.to(device)
    train, test = (
        cached(encoder, split.images, needed, device, cache, progress) for split in (train_split, test_split)
    )
    encoding = time.monotonic() - began
    pictures = f"{file.path.parent}/{picture_prefix(file.path.name)}"
    failed = []
    for name, layer in ((name, layer) for name, planned in plan.items() for layer in planned):
        if not file.missing(name, [layer]):
            continue  # another process was quicker
        began = time.monotonic()
        own = seeds if EVALUATIONS[name].seeded(protocol) else seeds[:1]
        sides = train[layer], test[layer], train_split, test_split
        first = Task(layer, *sides, protocol, seeds[0], pictures, progress)
        others = (dataclasses.replace(first, seed=seed, pictures=None) for seed in own[1:])
        try:
            result = finite(combine([EVALUATIONS[name].run(each) for each in (first, *others)]))
        except (UserError, torch.OutOfMemoryError, torch.linalg.LinAlgError) as error:
            failed.append(f"{name} of {layer}: {next(iter(str(error).splitlines()), 'failed')}")
        else:
            file.add(name, {layer: result}, time.monotonic() - began)
    with file.updating():
        before = file.content["wall_time"].get("encoding", 0.0)
        file.content["wall_time"]["encoding"] = round(before + encoding, 1)
    return failed

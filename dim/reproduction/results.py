"""The results of an experiment as one compact, self-contained file: every number with what made it."""

import contextlib
import dataclasses
import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dim.errors import UserError
from dim.evaluation.protocol import Results
from dim.evaluation.settings import PROTOCOLS
from dim.files import sha256, write_json
from dim.reproduction import tables
from dim.reproduction.budgets import BUDGETS, BudgetName
from dim.reproduction.published import number
from dim.reproduction.rows import Row
from dim.reproduction.runs import CONFIG, Run, State, all_negatives, belongs, read_evaluation, read_record, state
from dim.results import write_csv

VERSION = 1


def gather(
    experiment: str,
    data: str,
    budget: BudgetName,
    rows: Sequence[tuple[Row, Sequence[Run]]],
    extra: Sequence[str] = (),
) -> dict[str, Any]:
    """What there is of an experiment on disk; `rows` are its rows with their runs (one for each seed).

    Numbers of stale or unfinished runs are left out, but for what is evaluated of trained ones; all are listed with
    their state. `extra` are options of `dim fit` that every row had on top of the budget's. Nothing is published of
    `validation` held-out images.
    """
    first = rows[0][1][0]
    protocol = first.evaluating.protocol
    found = [_row(experiment, row, runs) for row, runs in rows]
    _note_other_images(found)
    judged_on = {"validation": first.validation} if first.validation else {}
    return {
        "schema_version": VERSION,
        "experiment": experiment,
        "data": data,
        "budget": {"name": budget, "about": about(budget, extra), "options": list(extra)},
        "protocol": {"name": protocol, **dataclasses.asdict(PROTOCOLS[protocol])},
        **judged_on,
        "rows": found,
    }


def about(budget: BudgetName, extra: Sequence[str]) -> str:
    """What a budget is, and what was changed of it."""
    text = BUDGETS[budget].about
    return f"{text}, changed by {' '.join(extra)}" if extra else text


def _row(experiment: str, row: Row, runs: Sequence[Run]) -> dict[str, Any]:
    columns = tables.columns(experiment, row.config, runs[0].validation)
    seeds = [_seed(run, {"/".join(cell) for cell in columns.values()}) for run in runs]
    measured = [seed["cells"] for seed in seeds if seed["cells"]]
    return {
        "row": row.label,
        "config": row.config,
        "name": row.name,
        "options": list(row.options),
        "place": _place(row, runs[0]),
        "epochs": runs[0].epochs,
        "published": {} if runs[0].validation else row.published,
        "ours": {
            column: summary for column, cell in columns.items() if (summary := _summary(measured, "/".join(cell)))
        },
        "seeds": seeds,
    }


def _place(row: Row, run: Run) -> dict[str, Any]:
    """Where a row stands in its grid; all negatives are those of the run's batches, at all positions."""
    if "negatives" not in row.place:
        return row.place
    return {**row.place, "negatives": row.place["negatives"] or all_negatives(run)}


def _note_other_images(rows: Sequence[dict[str, Any]]) -> None:
    """Says of which rows the images were not those of the first one with numbers: a data set's name does not tell."""
    measured = [(row["row"], seed) for row in rows for seed in row["seeds"] if seed["cells"]]
    for _, seed in measured:
        label, first = measured[0]
        if seed["provenance"]["data_fingerprint"] != first["provenance"]["data_fingerprint"]:
            other = f"seed {first['seed']} of {label} had other images"
            seed["note"] = "; ".join(filter(None, (seed["note"], other)))


def _summary(measured: Sequence[dict[str, dict[str, float]]], cell: str) -> dict[str, Any] | None:
    """Mean and deviation over seeds; of a single one, its own over repetitions or last evaluations, if it has any."""
    found = [cells[cell] for cells in measured if cell in cells]
    if not found:
        return None
    values = [entry["value"] for entry in found]
    if len(values) > 1:
        return {"mean": statistics.fmean(values), "std": statistics.stdev(values), "over": f"{len(values)} seeds"}
    own = found[0].get("std")
    return {"mean": values[0], "std": own, "over": "one seed" if own is None else "within one seed"}


def _seed(run: Run, wanted: set[str]) -> dict[str, Any]:
    """What there is of a run; its cells where at least one of those that are `wanted` is among them."""
    found = state(run)
    entry: dict[str, Any] = {"seed": run.seed, "state": found.stage}
    if found.stage in ("trained", "done"):
        evaluation, record = read_evaluation(run.folder / run.results), read_record(run.folder)
        assert record is not None
        its = evaluation is not None and belongs(run, evaluation["identity"], record)
        if evaluation is not None and its and wanted & (cells := _cells(evaluation["results"])).keys():
            notes = tables.unconverged(evaluation["results"])
            if found.stage == "trained":
                notes.insert(0, describe(found).replace("not evaluated yet", "partly evaluated"))
            made = _provenance(run, record, evaluation)
            return {**entry, "note": "; ".join(notes), "cells": cells, "provenance": made}
    return {**entry, "note": describe(found), "cells": {}}


def _cells(results: Results) -> dict[str, dict[str, float]]:
    """evaluation/metric/layer -> value, and its deviation where it has one."""
    cells = {}
    for evaluation, metric in tables.CELLS:
        for layer, metrics in results.get(evaluation, {}).items():
            if metric in metrics:
                value, deviation = tables.measured(metrics, metric)
                cells[f"{evaluation}/{metric}/{layer}"] = {"value": value} | (
                    {} if deviation is None else {"std": deviation}
                )
    return cells


def _provenance(run: Run, record: dict[str, Any], evaluation: dict[str, Any]) -> dict[str, Any]:
    return {
        "command": record["command"],
        "config": record["recipe"],
        "config_sha256": sha256(run.folder / CONFIG),
        "checkpoint_sha256": record["checkpoint_sha256"],
        "data_fingerprint": evaluation["identity"]["data"]["fingerprint"],
        "global_step": evaluation["global_step"],
        "training": record["sessions"],
        "training_seconds": training_seconds(record),
        "evaluation": _alike(evaluation["provenance"]),
        "evaluation_seconds": evaluation["wall_time"],
    }


def _alike(provenance: dict[str, Any]) -> list[dict[str, Any]]:
    """What evaluations were made with, those made with the same things together."""
    groups: list[dict[str, Any]] = []
    for name, about in provenance.items():
        group = next((group for group in groups if all(group[key] == value for key, value in about.items())), None)
        if group is None:
            group = {"evaluations": [], **about}
            groups.append(group)
        group["evaluations"].append(name)
    return groups


def training_seconds(record: dict[str, Any]) -> float:
    """Wall time of all sessions of a training."""
    return round(sum(session["seconds"] or 0.0 for session in record["sessions"]), 1)


def describe(found: State) -> str:
    """A state in words."""
    if found.error:
        return f"failed ({found.error.partition(' (see ')[0]})"
    words = {"begun": "partly trained", "trained": "not evaluated yet", "missing": "not trained yet"}
    text = words.get(found.stage, found.stage)
    return f"{text} ({found.reason})" if found.reason else text


def long_rows(content: dict[str, Any]) -> list[dict[str, Any]]:
    """One line for each cell of an experiment's table: published, ours and the difference."""
    lines = []
    for row in content["rows"]:
        for column in tables.columns(content["experiment"], row["config"], content.get("validation", 0)):
            ours = row["ours"].get(column, {})
            value, (mean, deviation) = ours.get("mean"), number(row["published"].get(column))
            if value is None and column in tables.OURS.get(content["experiment"], {}):
                continue
            lines.append(
                {
                    "row": row["row"],
                    "name": row["name"],
                    "data": content["data"],
                    "column": column,
                    "label": tables.COLUMNS[column],
                    "published": mean,
                    "published_std": deviation,
                    "ours": value,
                    "ours_std": ours.get("std"),
                    "over": ours.get("over", ""),
                    "difference": None if None in (mean, value) else value - mean,
                    "budget": content["budget"]["name"],
                    "epochs": row["epochs"],
                    "seeds": sum(bool(seed["cells"]) for seed in row["seeds"]),
                    "state": row_state(row),
                }
            )
    return lines


def row_state(row: dict[str, Any]) -> str:
    """What a reader must know of a row: what is missing of it, and which solvers stopped early.

    Of a row that has numbers of some seeds, what is missing names its seeds.
    """
    some = any(seed["cells"] for seed in row["seeds"])
    found: dict[str, list[str]] = {}
    for seed in row["seeds"]:
        if seed["note"]:
            found.setdefault(seed["note"], []).append("" if seed["cells"] or not some else str(seed["seed"]))
    return "; ".join(
        f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}: {note}" if any(seeds) else note
        for note, seeds in sorted(found.items())
    )


def place(folder: Path, experiment: str, data: str, budget: BudgetName) -> Path:
    """Where an experiment's results are written; beside it, with .csv, its table."""
    return folder / f"{experiment}-{data}-{budget}.json"


def check(path: Path, extra: Sequence[str], rows: Sequence[Row], seeds: int) -> None:
    """Looks, before anything is trained, whether results of these rows, options and seeds may be written to `path`.

    Raises:
        UserError: its folder cannot be written to, or it holds results with other options, of more seeds, or of rows
            that are not here.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{path.parent} cannot be written to: give another --output")
    if not path.exists():
        return
    with contextlib.suppress(ValueError, KeyError, TypeError):  # no results: gives way
        content = json.loads(path.read_text("utf-8"))
        if lost := {row["name"] for row in content["rows"]} - {row.name for row in rows}:
            raise UserError(f"{path} holds results of {', '.join(sorted(lost))}: give another --output for these rows")
        measured = (seed["seed"] for row in content["rows"] for seed in row["seeds"] if seed["cells"])
        if (held := max(measured, default=-1) + 1) > seeds:
            raise UserError(f"{path} holds results of {held} seeds: add --seeds {held}, or give another --output")
        other = content["budget"].get("options", [])
        if list(other) != list(extra):
            said = f"with {' '.join(other)}" if other else "without options"
            raise UserError(f"{path} holds results {said}: give another --output, and other --runs, for these")


def write(content: dict[str, Any], folder: Path) -> Path:
    """Writes EXPERIMENT-DATA-BUDGET.json and .csv, and returns the JSON's path."""
    path = place(folder, content["experiment"], content["data"], content["budget"]["name"])
    write_json(path, content)
    write_csv(path.with_suffix(".csv"), long_rows(content))
    return path


def read_all(folder: Path) -> list[dict[str, Any]]:
    """All files of results in a folder, in the order of their names; those of `dim evaluate` are passed over.

    Raises:
        UserError: one is damaged or of another version.
    """
    contents = []
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text("utf-8"))
            if "identity" in content and "experiment" not in content:
                continue  # of dim evaluate
            if content["schema_version"] != VERSION:
                raise UserError(f"{path} has schema {content['schema_version']}: run dim reproduce again")
            content["rows"], content["experiment"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} holds no results of dim reproduce: move it away") from error
        contents.append(content)
    return contents

"""Probe accuracy against minutes of training, from runs that were evaluated.

    python benchmarks/curve.py RUN ... [--json FILE] [--figure FILE]

Each RUN is a folder of `dim fit` in which `dim evaluate RUN --only mlp` has left its quick results. Minutes are those
of the training log, on whatever the run was given; runs of equal length are one point with the range of their seeds.
FILE keeps the points of earlier calls. Dashed: published, after 1000 epochs.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from dim import plots
from dim.errors import UserError
from dim.export import cost
from dim.files import write_json
from dim.networks.encoders import LAYERS
from dim.reproduction.published import published_row

COLOURS = {"conv": "#0072b2", "fc": "#d55e00", "y": "#009e73"}


def point(run: Path) -> dict[str, Any]:
    """What a run's evaluation and log say.

    Raises:
        UserError: it has not been evaluated.
    """
    path = run / "evaluation.json"
    if not path.exists():
        raise UserError(f"{run} holds no evaluation.json: run dim evaluate {run} --only mlp first")
    found = json.loads(path.read_text())
    about = yaml.safe_load(found["training_config"])
    return {
        "run": found["name"],
        "data": found["identity"]["data"]["source"],
        "epochs": found["epoch"] + 1,
        "seed": about["seed_everything"],
        "minutes": round(cost(run, found["global_step"])["seconds"] / 60, 1),
        "protocol": found["identity"]["protocol"]["name"],
        "accuracy": {layer: found["results"]["mlp"][layer]["accuracy"] for layer in LAYERS},
        "checkpoint_sha256": found["identity"]["checkpoint_sha256"],
    }


def grouped(points: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Points of equal length together, from short to long."""
    lengths = sorted({entry["epochs"] for entry in points})
    return [[entry for entry in points if entry["epochs"] == length] for length in lengths]


def show(points: list[dict[str, Any]]) -> None:
    table = Table(title="MLP probes, quick protocol, test accuracy in %", title_justify="left")
    for name in ("epochs", "minutes", "seeds", *LAYERS):
        table.add_column(name, justify="right")
    for group in grouped(points):
        cells = []
        for layer in LAYERS:
            values = [entry["accuracy"][layer] for entry in group]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.2f}{spread}")
        minutes = statistics.fmean(entry["minutes"] for entry in group)
        table.add_row(str(group[0]["epochs"]), f"{minutes:.0f}", str(len(group)), *cells)
    Console().print(table)


def draw(points: list[dict[str, Any]], path: Path) -> Path:
    figure, (axes,) = plots.figure(width=6.0, height=3.8)
    groups = grouped(points)
    minutes = [statistics.fmean(entry["minutes"] for entry in group) for group in groups]
    row = published_row("table1", points[0]["data"], points[0]["run"]) or {}
    for layer, colour in COLOURS.items():
        values = [[entry["accuracy"][layer] for entry in group] for group in groups]
        axes.plot(minutes, [statistics.fmean(group) for group in values], marker="o", color=colour, label=layer)
        axes.fill_between(minutes, list(map(min, values)), list(map(max, values)), color=colour, alpha=0.2, linewidth=0)
        if published := row.get(layer):
            axes.axhline(published, color=colour, linestyle="--", linewidth=1)
    axes.set(xscale="log", xlabel="minutes of training", ylabel="test accuracy in %", title=points[0]["run"])
    axes.set_xticks(minutes, [f"{value:.0f}" for value in minutes])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(loc="best")
    return plots.save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    kept = json.loads(options.json.read_text())["points"] if options.json and options.json.exists() else []
    try:
        new = [point(run) for run in options.runs]
    except UserError as error:
        parser.error(str(error))
    known = {entry["checkpoint_sha256"] for entry in new}
    points = [entry for entry in kept if entry["checkpoint_sha256"] not in known] + new
    points.sort(key=lambda entry: (entry["epochs"], entry["seed"]))
    show(points)
    if options.json:
        write_json(options.json, {"points": points})
    if options.figure:
        print(draw(points, options.figure))


if __name__ == "__main__":
    main()

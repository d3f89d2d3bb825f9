"""Probe accuracy against minutes of training, from runs that were evaluated.

    python benchmarks/curve.py RUN ... [--json FILE] [--figure FILE]

Each RUN is a folder of `dim fit` in which `dim evaluate RUN --only mlp` has left its quick results. Minutes are those
of the training log, on whatever the run was given; runs of one recipe (config, batch size, weight decay, precision)
and length are one point with the range of their seeds. FILE keeps the points of earlier calls. Dashed: published, after
1000 epochs.
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
MARKERS = "osD^vP*X"
TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
RECIPE = ("run", "data", "batch_size", "weight_decay", "precision")
"""What makes points comparable but for their length and seed."""


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
        "batch_size": about["data"]["init_args"]["batch_size"],
        "weight_decay": about["model"]["init_args"].get("weight_decay", 0.0),
        "precision": about["trainer"]["precision"] or "32-true",
        "epochs": found["epoch"] + 1,
        "seed": about["seed_everything"],
        "minutes": round(cost(run, found["global_step"])["seconds"] / 60, 1),
        "protocol": found["identity"]["protocol"]["name"],
        "accuracy": {layer: found["results"]["mlp"][layer]["accuracy"] for layer in LAYERS},
        "checkpoint_sha256": found["identity"]["checkpoint_sha256"],
    }


def recipes(points: list[dict[str, Any]]) -> dict[str, list[list[dict[str, Any]]]]:
    """What a recipe is called -> its points of equal length together, from short to long.

    Raises:
        UserError: not all are of the same data.
    """
    if len({entry["data"] for entry in points}) > 1:
        raise UserError("these runs are of several data sets: draw a figure of each")
    found: dict[str, list[list[dict[str, Any]]]] = {}
    for recipe in sorted({tuple(entry[name] for name in RECIPE) for entry in points}, key=str):
        own = [entry for entry in points if tuple(entry[name] for name in RECIPE) == recipe]
        lengths = sorted({entry["epochs"] for entry in own})
        run, _, batch_size, decay, precision = recipe
        name = f"{run}, batches of {batch_size}{f', decay {decay}' if decay else ''}, {precision}"
        found[name] = [[entry for entry in own if entry["epochs"] == length] for length in lengths]
    return found


def mean_minutes(group: list[dict[str, Any]]) -> float:
    return statistics.fmean(entry["minutes"] for entry in group)


def show(points: list[dict[str, Any]]) -> None:
    table = Table(title="MLP probes, quick protocol, test accuracy in %", title_justify="left")
    for name in ("recipe", "epochs", "minutes", "seeds", *LAYERS):
        table.add_column(name, justify="left" if name == "recipe" else "right")
    for recipe, groups in recipes(points).items():
        for group in groups:
            cells = []
            for layer in LAYERS:
                values = [entry["accuracy"][layer] for entry in group]
                spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
                cells.append(f"{statistics.fmean(values):.2f}{spread}")
            table.add_row(recipe, str(group[0]["epochs"]), f"{mean_minutes(group):.0f}", str(len(group)), *cells)
    Console(width=120).print(table)


def draw(points: list[dict[str, Any]], path: Path) -> Path:
    figure, (axes,) = plots.figure(width=7.0, height=6.0)
    minutes = [mean_minutes(group) for groups in recipes(points).values() for group in groups]
    row = published_row("table1", points[0]["data"], "dim_local_infonce") or {}
    for (recipe, groups), marker in zip(recipes(points).items(), MARKERS, strict=False):
        x = [mean_minutes(group) for group in groups]
        axes.plot([], [], color="grey", marker=marker, label=recipe)
        for layer, colour in COLOURS.items():
            values = [[entry["accuracy"][layer] for entry in group] for group in groups]
            means = [statistics.fmean(group) for group in values]
            # From the worst to the best seed, where there are several: a band would narrow to a point at single runs.
            reach = [[m - min(g) for m, g in zip(means, values, strict=True)]]
            reach += [[max(g) - m for m, g in zip(means, values, strict=True)]]
            axes.errorbar(x, means, yerr=reach, marker=marker, color=colour, capsize=3)
    for layer, colour in COLOURS.items():
        axes.plot([], [], color=colour, label=layer)
        if published := row.get(layer):
            axes.axhline(published, color=colour, linestyle="--", linewidth=1)
    axes.set(xscale="log", xlabel="minutes of training", ylabel="test accuracy in %")
    ticks = [value for value in TICKS if min(minutes) / 2 < value < max(minutes) * 2]
    axes.set_xticks(ticks, [str(value) for value in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", fontsize="small")
    return plots.save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    kept = json.loads(options.json.read_text())["points"] if options.json and options.json.exists() else []
    kept = [{"weight_decay": 0.0, **entry} for entry in kept]  # files from before there was decay
    try:
        new = [point(run) for run in options.runs]
    except UserError as error:
        parser.error(str(error))
    known = {entry["checkpoint_sha256"] for entry in new}
    points = [entry for entry in kept if entry["checkpoint_sha256"] not in known] + new
    points.sort(key=lambda entry: (entry["epochs"], entry["seed"]))
    try:
        show(points)
    except UserError as error:
        parser.error(str(error))
    if options.json:
        write_json(options.json, {"points": points})
    if options.figure:
        print(draw(points, options.figure))


if __name__ == "__main__":
    main()

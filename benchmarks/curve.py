"""Probe accuracy against minutes of training, from runs that were evaluated.

    python benchmarks/curve.py RUN ... [--json FILE] [--figure FILE]

Each RUN is a folder of `dim fit` in which `dim evaluate RUN --only mlp` has left its quick results. Minutes are those
of the training log, on whatever the run was given; runs of one recipe (config, batch size, ghost batches, weight decay,
units of the critic, precision) and length are one point with the range of their seeds. FILE keeps the points of earlier
calls.
Published, after 1000 epochs: dashed in table 1, dotted in table 5.
"""

import argparse
import itertools
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

MARKERS = "osD^vP*Xph"
TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
RECIPE = ("run", "data", "batch_size", "ghost_batch", "weight_decay", "units", "precision")
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
        "run": found["name"].partition("/")[0],  # the config's; a run may be named after more
        "data": found["identity"]["data"]["source"],
        "batch_size": about["data"]["init_args"]["batch_size"],
        "ghost_batch": about["model"]["init_args"].get("ghost_batch"),
        "weight_decay": about["model"]["init_args"].get("weight_decay", 0.0),
        "units": about["model"]["init_args"]["units"],
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
        run, _, batch_size, ghost, decay, units, precision = recipe
        batches = f"batches of {batch_size}{f' (ghost: {ghost})' if ghost else ''}"
        name = f"{run}, {batches}, {f'decay {decay}, ' if decay else ''}U = {units}, {precision}"
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
    """A panel for each layer, a marker for each recipe."""
    figure, panels = plots.figure(columns=len(LAYERS), width=4.2, height=5.4)
    groups = recipes(points)
    for layer, axes in zip(LAYERS, panels, strict=True):
        for (recipe, lengths), marker in zip(groups.items(), itertools.cycle(MARKERS), strict=False):
            values = [[entry["accuracy"][layer] for entry in group] for group in lengths]
            means = [statistics.fmean(group) for group in values]
            # From the worst to the best seed, where there are several: a band would narrow to a point at single runs.
            reach = [[m - min(g) for m, g in zip(means, values, strict=True)]]
            reach += [[max(g) - m for m, g in zip(means, values, strict=True)]]
            x = [mean_minutes(group) for group in lengths]
            axes.errorbar(x, means, yerr=reach, marker=marker, capsize=3, label=recipe)
        for table, style in (("table1", "--"), ("table5", ":")):
            if published := (published_row(table, points[0]["data"], "dim_local_infonce") or {}).get(layer):
                label = f"published for dim_local_infonce, {table}"
                axes.axhline(published, color="black", linestyle=style, linewidth=1, label=label)
        axes.set(title=layer, xscale="log", xlabel="minutes of training")
        low, high = axes.get_xlim()
        ticks = [value for value in TICKS if low < value < high]
        axes.set_xticks(ticks, [str(value) for value in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("test accuracy in %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small")
    return plots.save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    kept = json.loads(options.json.read_text())["points"] if options.json and options.json.exists() else []
    before = {"ghost_batch": None, "weight_decay": 0.0, "units": 256}  # of files that do not say
    kept = [{**before, **entry} for entry in kept]
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

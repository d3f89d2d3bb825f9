"""Tables of one encoder: our numbers, the published ones and the difference."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from dim.networks.encoders import LAYERS
from dim.reproduction.published import TABLES, number, published, published_row

# evaluation, metric -> what the table calls it, and where the paper has it (table and column; {layer} is filled in).
CELLS: dict[tuple[str, str], tuple[str, tuple[str, str] | None]] = {
    ("classifier", "accuracy"): ("its own classifier, accuracy % (table 1)", ("table1", "accuracy")),
    # The paper averages over the last epochs; with one epoch that is the final accuracy.
    ("mlp", "accuracy_last_k"): ("MLP probe, accuracy % ({table})", ("table1 table5", "{layer}")),
    ("svm", "accuracy"): ("linear SVM, accuracy % over five runs (table 4)", ("table4", "svm_{layer}")),
    ("svm", "raw"): ("linear SVM on raw features, accuracy %", None),
    ("linear", "accuracy"): ("logistic regression, accuracy %", None),
    ("knn", "accuracy"): ("kNN (cosine), accuracy %", None),
    ("rank", "effective_rank"): ("effective rank", None),
    # The authors call a single-scale SSIM of their own MS-SSIM: theirs is the column to compare.
    ("decoder", "ms_ssim"): ("decoder, MS-SSIM (scales that fit)", None),
    ("decoder", "ssim"): ("decoder, SSIM", None),
    ("decoder", "ssim_authors"): ("decoder, the authors' SSIM (table 4's MS-SSIM)", ("table4", "ms_ssim")),
    # Estimates waver to the end: the mean and deviation over the last evaluations say more than the last one.
    ("mine", "mean_of_last"): ("MINE, held-out nats, last evaluations", None),
    ("mine", "train_estimate"): ("MINE, nats on training batches (table 4, presumably)", ("table4", "mine")),
    ("mine", "ceiling"): ("log n of MINE's held-out pairs: more is not certified", None),
    ("ndm", "mean_of_last"): ("NDM, held-out nats, last evaluations (table 4)", ("table4", "ndm")),
    ("ndm", "train_estimate"): ("NDM, nats on the last training batch", None),
    ("ndm", "sigmoid"): ("NDM with a sigmoid, held-out nats, last evaluations (table 4)", ("table4", "ndm_sigmoid")),
    ("ndm", "ceiling"): ("log n of NDM's held-out codes: more is not certified", None),
}

COLUMNS = {
    "conv": "conv",
    "fc": "fc",
    "y": "Y",
    "accuracy": "classifier",
    "svm_conv": "SVM conv",
    "svm_fc": "SVM fc",
    "svm_y": "SVM Y",
    "svm_raw_conv": "SVM raw conv",
    "svm_raw_fc": "SVM raw fc",
    "svm_raw_y": "SVM raw Y",
    "ms_ssim": "authors' SSIM (their MS-SSIM)",
    "ms_ssim_scales": "MS-SSIM (scales that fit)",
    "ssim": "SSIM",
    "mine": "MINE, training batches",
    "mine_held_out": "MINE, held-out",
    "mine_ceiling": "log n of MINE's pairs",
    "ndm": "NDM, held-out",
    "ndm_training": "NDM, last training batch",
    "ndm_sigmoid": "NDM, sigmoid",
    "ndm_ceiling": "log n of NDM's codes",
}
"""Columns in the order of reading, and what they are called."""
OURS: dict[str, dict[str, tuple[str, str, str]]] = {
    "table4": {
        **{f"svm_raw_{layer}": ("svm", "raw", layer) for layer in LAYERS},
        "ms_ssim_scales": ("decoder", "ms_ssim", "y"),
        "ssim": ("decoder", "ssim", "y"),
        "mine_held_out": ("mine", "mean_of_last", "y"),
        "mine_ceiling": ("mine", "ceiling", "y"),
        "ndm_training": ("ndm", "train_estimate", "y"),
        "ndm_ceiling": ("ndm", "ceiling", "y"),
    }
}
"""Columns that a table of the paper does not have, without which its own would mislead; shown where they are filled."""


def columns(table: str, config: str, held_out: int = 0) -> dict[str, tuple[str, str, str]]:
    """The columns of a row in one of the paper's tables, and ours: name -> (evaluation, metric, layer) that fills it.

    The fully supervised row has one number, its own classifier's on test images; judged on `held_out` images it has
    probes like the others. What is no table (a figure's grid, rows of your own) has table 1's.
    """
    table = table if table in TABLES else "table1"
    found = {
        place[1].format(layer=layer): (evaluation, metric, layer)
        for (evaluation, metric), (_, place) in CELLS.items()
        if place is not None and table in place[0].split()
        for layer in LAYERS
        if "{layer}" in place[1] or layer == "y"
    }
    names = ["accuracy"] if config == "supervised" and not held_out else published()[table]["columns"]
    cells = {name: found[name] for name in names} | OURS.get(table, {})
    return {name: cells[name] for name in COLUMNS if name in cells}


def measured(metrics: dict[str, Any], metric: str) -> tuple[float, float | None]:
    """A metric's value (the main one of a nested result) and its deviation.

    The deviation is over seeds or repetitions, else over an estimate's last evaluations, else None.
    """
    value = metrics[metric]
    if isinstance(value, dict):
        return measured(value, "mean_of_last" if "mean_of_last" in value else "accuracy")
    spread = metrics.get("spread") if metric == "mean_of_last" else None
    return value, metrics.get(f"{metric}_std", spread)


def rows(results: dict[str, Any], data: str, config: str) -> list[dict[str, Any]]:
    """One row for each evaluation, metric and layer: ours, published and difference."""
    table = []
    for (evaluation, metric), (label, place) in CELLS.items():
        for layer, metrics in results.get(evaluation, {}).items():
            if metric not in metrics:
                continue
            ours, ours_std = measured(metrics, metric)
            for source, paper in _published(place, data, config, layer):
                mean, deviation = number(paper)
                table.append(
                    {
                        "evaluation": evaluation,
                        "metric": metric,
                        "label": label.format(table=source.replace("table", "table ")),
                        "layer": layer,
                        "ours": ours,
                        "ours_std": ours_std,
                        "published": mean,
                        "published_std": deviation,
                        "difference": None if mean is None else ours - mean,
                    }
                )
    return sorted(table, key=lambda row: list(dict.fromkeys(r["label"] for r in table)).index(row["label"]))


def published_config(content: dict[str, Any]) -> str:
    """The config whose published row a results file of `dim evaluate` stands beside; empty where there is none.

    That is what the run was named after (it may be named after more: CONFIG/seed0), where its encoder is evaluated on
    test images of the data that it was trained on.
    """
    data = content["identity"]["data"]
    own = content.get("trained_on", data["source"]) == data["source"] and not data.get("validation")
    return (content.get("name") or "").partition("/")[0] if own else ""


def unconverged(results: dict[str, Any]) -> list[str]:
    """What solvers stopped short of, in words: the accuracy of weights off the minimum is not the method's."""
    found = []
    for evaluation, layers in results.items():
        for layer, metrics in layers.items():
            for name, part in ((evaluation, metrics), (f"{evaluation} on raw features", metrics.get("raw"))):
                if part and part.get("converged") is False:
                    gap = 100 * part["relative_gap"]
                    found.append(f"{name}, {layer}: stopped up to {gap:.2g} % above its minimum")
    return found


def _published(place: tuple[str, str] | None, data: str, config: str, layer: str) -> list[tuple[str, Any]]:
    """(table, value) of every table that has the cell; the first table without a value where none has."""
    if place is None:
        return [("", None)]
    sources = place[0].split()
    found = [
        (source, (published_row(source, data, config) or {}).get(place[1].format(layer=layer))) for source in sources
    ]
    return [pair for pair in found if pair[1] is not None] or found[:1]


def cell_text(value: float | None, deviation: float | None) -> str:
    """`75.21`, `75.21 ± 0.30`, or `-` where there is nothing."""
    if value is None:
        return "-"
    return f"{value:.2f}" if deviation is None else f"{value:.2f} ± {deviation:.2f}"


def print_rows(table: list[dict[str, Any]], title: str, console: Console | None = None) -> None:
    """Prints what `rows` returned."""
    printed = Table(title=title, title_justify="left")
    for name in ("", "layer", "ours", "published", "difference"):
        printed.add_column(name, justify="left" if name in ("", "layer") else "right")
    previous = None
    for row in table:
        first = row["label"] != previous
        if previous is not None and first:
            printed.add_section()
        difference = "-" if row["difference"] is None else f"{row['difference']:+.2f}"
        printed.add_row(
            row["label"] if first else "",
            row["layer"],
            cell_text(row["ours"], row["ours_std"]),
            cell_text(row["published"], row["published_std"]),
            difference,
        )
        previous = row["label"]
    (console or Console()).print(printed)


def print_experiment(lines: list[dict[str, Any]], title: str, note: str, console: Console | None = None) -> None:
    """Prints the lines of an experiment's table (`dim.reproduction.results.long_rows`) with a note below."""
    printed = Table(title=title, title_justify="left", caption=note or None, caption_justify="left")
    for name in ("row", "", "published", "ours", "difference", "epochs", "seeds", "note"):
        words = name in ("row", "", "note")
        printed.add_column(name, justify="left" if words else "right", no_wrap=name != "note")
    previous = None
    for line in lines:
        first = line["row"] != previous
        if previous is not None and first:
            printed.add_section()
        printed.add_row(
            line["row"] if first else "",
            COLUMNS[line["column"]],
            cell_text(line["published"], line["published_std"]),
            cell_text(line["ours"], line["ours_std"]),
            "-" if line["difference"] is None else f"{line['difference']:+.2f}",
            *((str(line["epochs"]), str(line["seeds"]), line["state"]) if first else ("", "", "")),
        )
        previous = line["row"]
    (console or wide_console()).print(printed)


def wide_console() -> Console:
    """Standard output, with room for a table where it is a file or a pipe."""
    return Console() if sys.stdout.isatty() else Console(width=120)

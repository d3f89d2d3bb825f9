"""Tables of one encoder: our numbers, the published ones and the difference."""

from typing import Any

from rich.console import Console
from rich.table import Table

from dim.reproduction.published import published_row

TITLES = {"classifier": "its own classifier (table 1)", "mlp": "MLP probe (table 1)", "svm": "linear SVM (table 4)"}


def _cell(value: float | None, deviation: float | None = None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if deviation is None else f"{value:.2f} ± {deviation:.2f}"


def _published(evaluation: str, data: str, config: str, layer: str) -> tuple[float | None, float | None]:
    if evaluation in ("classifier", "mlp"):
        row = published_row("table1", data, config) or {}
        return row.get("accuracy" if evaluation == "classifier" else layer), None
    row = published_row("table4", data, config) or {}
    mean, deviation = row.get(f"{evaluation}_{layer}", (None, None))
    return mean, deviation


def rows(results: dict[str, Any], data: str, config: str) -> list[dict[str, Any]]:
    """One row for each evaluation and layer: ours, published and difference, accuracies in percent."""
    table = []
    for evaluation in TITLES:
        for layer, metrics in results.get(evaluation, {}).items():
            # Over several runs the paper gives their mean; the fit on all training rows is a run of its own.
            ours = metrics.get("accuracy_mean", metrics["accuracy"])
            paper, paper_deviation = _published(evaluation, data, config, layer)
            table.append(
                {
                    "evaluation": evaluation,
                    "layer": layer,
                    "ours": ours,
                    "ours_std": metrics.get("accuracy_std"),
                    "published": paper,
                    "published_std": paper_deviation,
                    "difference": None if paper is None else ours - paper,
                }
            )
    return table


def print_rows(table: list[dict[str, Any]], title: str, console: Console | None = None) -> None:
    """Prints what `rows` returned."""
    printed = Table(title=title, title_justify="left")
    printed.add_column("accuracy, %")
    for name in ("layer", "ours", "published", "difference"):
        printed.add_column(name, justify="left" if name == "layer" else "right")
    previous = None
    for row in table:
        name = TITLES[row["evaluation"]]
        if previous not in (None, name):
            printed.add_section()
        difference = "-" if row["difference"] is None else f"{row['difference']:+.2f}"
        printed.add_row(
            name if name != previous else "",
            row["layer"],
            _cell(row["ours"], row["ours_std"]),
            _cell(row["published"], row["published_std"]),
            difference,
        )
        previous = name
    (console or Console()).print(printed)

"""Tables as they are shown: one view of an experiment's results, whatever it is rendered to."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dim.reproduction import tables
from dim.reproduction.budgets import BUDGETS
from dim.reproduction.published import note, number
from dim.reproduction.recipes import get
from dim.reproduction.results import row_state

TITLES = {
    "table1": "Table 1: MLP probes on frozen layers, top-1 test accuracy in %",
    "table4": "Table 4: SVMs (accuracy in %), reconstruction, mutual information and dependence (nats)",
    "table5": "Table 5: structure tasks, MLP probes, top-1 test accuracy in %",
    "negatives": "Negatives: MLP probes of DIM(L) against the number of negatives, top-1 test accuracy in %",
    "weights": "Weights: MLP probes on Y against alpha (global), beta (local), gamma (prior), top-1 test accuracy in %",
}
DATA = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "digits": "digits"}
SETTINGS = (
    *(f"trainer.{name}" for name in ("max_epochs", "precision", "devices")),
    "data.init_args.batch_size",
    *(
        f"model.init_args.{name}"
        for name in (
            *("learning_rate", "schedule", "warmup_steps", "weight_decay", "whitening", "units", "score_spread"),
            *("ghost_batch", "negatives"),
        )
    ),
)
"""What a table says of how its rows were trained, where their configs set it: what budgets change of the paper's."""
FULL_COLOUR = {"mine": None, "ndm": None, "ndm_sigmoid": None, "ms_ssim": 0.3}
"""A difference as large as this is coloured fully; None: more is neither better nor worse."""
ACCURACY_COLOUR = 20.0


@dataclass(frozen=True)
class Cell:
    """One number of ours and the paper's; None where there is none.

    Attributes:
        shade: the difference from -1 (far below the paper) to 1, or None where it is not coloured.
        over: what the deviation is over.
    """

    ours: float | None = None
    std: float | None = None
    published: float | None = None
    published_std: float | None = None
    shade: float | None = None
    over: str = ""

    @property
    def difference(self) -> float | None:
        return None if self.ours is None or self.published is None else self.ours - self.published

    @property
    def text(self) -> str:
        """Ours, with its deviation."""
        return tables.cell_text(self.ours, self.std)

    @property
    def published_text(self) -> str:
        return tables.cell_text(self.published, self.published_std)


@dataclass(frozen=True)
class TableRow:
    """One row of a table.

    Attributes:
        seeds: how many are trained and have at least one of the columns.
        minutes: what the training of such a seed took, on the average; None where there is none.
        cells: by column.
        note: what a reader must know of a row that is not whole.
    """

    label: str
    epochs: int | None
    seeds: int
    minutes: float | None
    cells: dict[str, Cell]
    note: str

    @property
    def cost(self) -> tuple[str, str, str]:
        """Epochs, minutes and seeds as text."""
        minutes = "" if self.minutes is None else f"{self.minutes:.1f}"
        return str(self.epochs), minutes, str(self.seeds)


COST = ("epochs", "minutes", "seeds")


@dataclass(frozen=True)
class View:
    """A table to render."""

    key: str
    title: str
    about: str
    columns: Sequence[str]
    rows: list[TableRow] = field(default_factory=list)

    @property
    def finished(self) -> int:
        """Rows with at least one number."""
        return sum(any(cell.ours is not None for cell in row.cells.values()) for row in self.rows)


def view(content: dict[str, Any]) -> View:
    """The table of an experiment's results (`dim.reproduction.results.gather`)."""
    experiment, data, budget = content["experiment"], content["data"], content["budget"]
    held_out, rows = content.get("validation", 0), []
    for row in content["rows"]:
        cells = {column: _cell(row, column) for column in tables.columns(experiment, row["config"], held_out)}
        seconds = [seed["provenance"]["training_seconds"] for seed in row["seeds"] if seed["cells"]]
        minutes = statistics.fmean(seconds) / 60 if seconds else None
        rows.append(TableRow(row["row"], row["epochs"], len(seconds), minutes, cells, row_state(row)))
    ours = tables.OURS.get(experiment, {})
    shown = {name for row in rows for name, cell in row.cells.items() if cell.ours is not None or name not in ours}
    used = [column for column in tables.COLUMNS if column in shown]
    own = f"{experiment}: MLP probes on frozen layers, top-1 test accuracy in %"
    title = f"{TITLES.get(experiment, own)}; {DATA.get(data, data)}, {budget['name']} budget"
    if held_out:
        title = f"{title.replace('test accuracy', 'accuracy')}; {held_out} held-out training images"
    about = trained_with(content["rows"]) or f"{budget['about'][0].upper()}{budget['about'][1:]}."
    about += f" Evaluated by the {content['protocol']['name']} protocol."
    if options := budget.get("options"):
        about += f" Changed by {' '.join(options)}."
    if (said := note(experiment, data)) and not held_out:
        about += f" {said}"
    return View(f"{experiment}-{data}-{budget['name']}", title, about, used, rows)


def trained_with(rows: Sequence[dict[str, Any]]) -> str:
    """What of `SETTINGS` the configs of trained rows set, all of them or some; empty where none is trained so."""
    configs = [seed["provenance"]["config"] for row in rows for seed in row["seeds"] if seed["cells"]]
    found: dict[tuple[int, ...], list[str]] = {}  # by the runs that have them
    for path in SETTINGS:
        values = [get(config, path) for config in configs]
        for value in dict.fromkeys(map(str, filter(lambda value: value is not None, values))):
            place = tuple(number for number, its in enumerate(values) if str(its) == value)
            name = path.rpartition(".")[2]
            found.setdefault(place, []).append(name if value == "True" else f"{name} {value}")
    parts = [
        ", ".join(said) if len(place) == len(configs) else f"{len(place)} of {len(configs)} runs with {', '.join(said)}"
        for place, said in sorted(found.items(), key=lambda entry: -len(entry[0]))
    ]
    return f"Trained with {'; '.join(parts)}." if parts else ""


def _cell(row: dict[str, Any], column: str) -> Cell:
    ours, (mean, deviation) = row["ours"].get(column, {}), number(row["published"].get(column))
    value, full = ours.get("mean"), FULL_COLOUR.get(column, ACCURACY_COLOUR)
    shade = None if None in (mean, value, full) else max(-1.0, min(1.0, (value - mean) / full))
    return Cell(value, ours.get("std"), mean, deviation, shade, ours.get("over", ""))


def in_order(contents: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results in the order of reading: by experiment, data set and budget, the largest budget first."""
    return sorted(
        contents,
        key=lambda content: (
            [*TITLES, content["experiment"]].index(content["experiment"]),
            [*DATA, content["data"]].index(content["data"]),
            [*BUDGETS, content["budget"]["name"]].index(content["budget"]["name"]),
        ),
    )

"""The rows of an experiment: the paper's, each with its config and published numbers."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dim.errors import UserError
from dim.reproduction.published import published

ExperimentName = Literal["table1", "table4", "table5"]
DataName = Literal["cifar10", "cifar100", "digits"]


@dataclass(frozen=True)
class Row:
    """One row: which config is trained, and what the paper says of it.

    Attributes:
        label: as the paper prints it.
        config: name under configs/<data>/.
        published: column -> number, or [mean, deviation].
        options: of `dim fit`, on top of the configs.
        suffix: of the run's name, where options make it another run than the config's own.
    """

    label: str
    config: str
    published: dict[str, Any] = field(default_factory=dict, hash=False)
    options: tuple[str, ...] = ()
    suffix: str = ""

    @property
    def name(self) -> str:
        """The run's name."""
        return f"{self.config}-{self.suffix}" if self.suffix else self.config


def data_of(experiment: ExperimentName) -> list[str]:
    """The data sets that the paper has for an experiment."""
    return [name for name, rows in published()[experiment].items() if isinstance(rows, list)]


def rows_of(experiment: ExperimentName, data: str, configs: Path) -> list[Row]:
    """The rows of an experiment for a data set; for one that the paper leaves out, those that have a config.

    Raises:
        UserError: no row of the experiment has a config for these data.
    """
    tables = published()[experiment]
    if data in tables:
        return [_row(entry) for entry in tables[data]]
    rows = [Row(row["row"], row["config"]) for row in tables["cifar10"]]
    rows = [row for row in rows if (configs / data / f"{row.config}.yaml").is_file()]
    if not rows:
        raise UserError(f"no row of {experiment} has a config for {data} in {configs}")
    return rows


def _row(entry: dict[str, Any]) -> Row:
    numbers = {name: value for name, value in entry.items() if name not in ("row", "config")}
    return Row(entry["row"], entry["config"], numbers)


def select(rows: Sequence[Row], patterns: str) -> list[Row]:
    """Rows whose label or name matches one of the patterns (shell style, separated by commas).

    Raises:
        UserError: a pattern that matches none.
    """
    chosen: list[Row] = []
    for pattern in patterns.split(","):
        found = [row for row in rows if any(fnmatch.fnmatchcase(name, pattern) for name in (row.label, row.name))]
        if not found:
            raise UserError(f"no row matches '{pattern}': {', '.join(row.label for row in rows)}")
        chosen += found
    return [row for row in rows if row in chosen]

"""The numbers that the paper published (`published.json`)."""

import functools
import json
from importlib import resources
from typing import Any

TABLES = ("table1", "table4", "table5")


@functools.cache
def published() -> dict[str, Any]:
    """All published tables; see `about` in the file for metrics and source."""
    return json.loads(resources.files("dim.reproduction").joinpath("published.json").read_text("utf-8"))


def number(value: Any) -> tuple[float | None, float | None]:
    """A published cell's mean and deviation, each None where it was not published."""
    mean, deviation = value if isinstance(value, list) else (value, None)
    return mean, deviation


def note(table: str, data: str) -> str:
    """What a reader must know of the published numbers; empty where there is nothing, or no such table."""
    found = published().get(table, {})
    return found.get("notes", "") if data in found else ""


def published_row(table: str, data: str, config: str) -> dict[str, Any] | None:
    """The row of `table` for a data set and the name of a config, or None where nothing was published."""
    rows = published()[table].get(data, [])
    return next((row for row in rows if row["config"] == config), None)

"""Results of an experiment that is made of many independent cells: kept one by one, so that it can go on later."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dim.progress import Report, silent
from dim.provenance import versions
from dim.results import IdentifiedFile, write_csv

FOLDER = "results/mine"
"""Where experiments leave results, unless they are told otherwise."""
Setting = Mapping[str, Any]
"""What tells a cell from the others, such as {"rho": 0.5, "seed": 0}; of what JSON can hold."""


class Cells(IdentifiedFile):
    """NAME.json: the finished cells of an experiment, each with its setting, result, wall time and versions.

    Run again with the same identity, finished cells are skipped, and others (more seeds, a finer grid) are added.

    Args:
        path: the file, NAME.json.
        identity: the settings that all cells share and that change their results (training, sample sizes), not the
            grid: that is what the cells' own settings are for.
        about: what else the file should say.
    """

    kind = "file of an experiment"

    def __init__(self, path: str | Path, identity: Setting, about: Setting | None = None) -> None:
        super().__init__(Path(path), identity, {"cells": []}, about)
        self._versions = versions()

    def _found(self) -> dict[str, dict[str, Any]]:
        return {_key(cell["setting"]): cell for cell in self.content["cells"]}

    def add(self, setting: Setting, result: Setting, seconds: float) -> None:
        """Keeps a finished cell, on disk at once."""
        cell = {
            "setting": dict(setting),
            "result": dict(result),
            "seconds": round(seconds, 2),
            "versions": self._versions,
        }
        with self.updating():
            self.content["cells"] = list({**self._found(), _key(setting): cell}.values())

    def run(
        self,
        plan: Sequence[Setting],
        measure: Callable[[Setting, Report], Setting],
        progress: Report = silent,
        name: str = "cells",
    ) -> list[dict[str, Any]]:
        """Measures the cells of `plan` that are missing and returns a row for each of them: setting and result.

        Args:
            plan: settings, in the order in which to go through them.
            measure: called with a setting and a progress report; returns what is kept.
            progress: shows cells done under `name`, beside what `measure` reports.
        """
        found = self._found()
        for place, setting in enumerate(plan):
            progress(name, place / len(plan))
            if _key(setting) not in found:
                began = time.monotonic()
                self.add(setting, measure(setting, progress), time.monotonic() - began)
                found = self._found()  # with what another process has added meanwhile
        progress(name, 1.0)
        return self.rows(plan)

    def rows(self, plan: Sequence[Setting]) -> list[dict[str, Any]]:
        """Setting, result and wall time of each finished cell of `plan`."""
        found = self._found()
        cells = [found[_key(setting)] for setting in plan if _key(setting) in found]
        return [{**cell["setting"], **cell["result"], "seconds": cell["seconds"]} for cell in cells]

    def write_csv(self, rows: Sequence[Mapping[str, Any]]) -> Path:
        """NAME.csv of what is a number or a text in `rows` (histories stay in the JSON file)."""
        path = self.path.with_suffix(".csv")
        flat = [{k: v for k, v in row.items() if not isinstance(v, (list, dict))} for row in rows]
        write_csv(path, flat)
        return path


def _key(setting: Setting) -> str:
    return json.dumps(setting, sort_keys=True)

"""The rows of an experiment: a table's, with their published numbers, the grid of a figure, or a file's of your own."""

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dim.errors import UserError
from dim.reproduction.published import TABLES, published, published_row
from dim.reproduction.recipes import given, parse_options, read_config


@dataclass(frozen=True)
class Row:
    """One row: which config is trained, and what the paper says of it.

    Attributes:
        label: as the paper prints it.
        config: name under configs/<data>/.
        published: column -> number, or [mean, deviation].
        options: of `dim fit`, on top of the configs.
        suffix: of the run's name, where options make it another run than the config's own.
        place: where the row stands in a grid; negatives None are all of a batch.
    """

    label: str
    config: str
    published: dict[str, Any] = field(default_factory=dict, hash=False)
    options: tuple[str, ...] = ()
    suffix: str = ""
    place: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        """The run's name."""
        return f"{self.config}-{self.suffix}" if self.suffix else self.config


def _negatives() -> list[Row]:
    """Negatives for each positive, for three objectives: the paper's figure of DIM(L) against their number.

    Its numbers are not published as text. Here: so many of a batch's other images (the budget cpu has 64), at the
    positive's own position; and all of them at all positions. The critic is the encode-and-dot one; the paper's
    ablations, as far as is recalled, had concatenate-and-convolve, with which all positions of all images are out of
    reach of two cores.
    """
    counts = (1, 4, 16, 63, None)
    return [
        Row(
            f"{name} with {count or 'all'} negative{'' if count == 1 else 's'}",
            f"dim_local_{objective}",
            options=("--model.negatives", str(count)) if count else (),
            suffix=f"negatives{count}" if count else "",
            place={"objective": name, "negatives": count},
        )
        for objective, name in (("dv", "DV"), ("jsd", "JSD"), ("infonce", "infoNCE"))
        for count in counts
    ]


def _weights() -> list[Row]:
    """alpha, beta and gamma over a grid: the paper's ablation. Its grid is not published as text; this one is ours."""
    return [
        Row(
            f"alpha {alpha:g} beta {beta:g} gamma {gamma:g}",
            "dim_local_global",
            options=("--model.alpha", f"{alpha}", "--model.beta", f"{beta}", "--model.gamma", f"{gamma}"),
            suffix=f"alpha{alpha:g}-beta{beta:g}-gamma{gamma:g}",
            place={"alpha": alpha, "beta": beta, "gamma": gamma},
        )
        for gamma in (0.0, 0.1, 1.0)
        for alpha in (0.0, 0.5, 1.0)
        for beta in (0.0, 0.1, 1.0)
        if alpha or beta
    ]


GRIDS: dict[str, Callable[[], list[Row]]] = {"negatives": _negatives, "weights": _weights}


def name_of(experiment: str) -> str:
    """An experiment's name: itself, or a file's without folder and ending.

    Raises:
        UserError: there is no such experiment or file, or the file has the name of one of the paper's.
    """
    paper = (*TABLES, *GRIDS)
    if experiment in paper:
        return experiment
    path = Path(experiment)
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(
            f"there is no experiment '{experiment}': choose {', '.join(paper)}, or give a YAML file of rows"
        )
    if path.stem in paper:
        raise UserError(f"{path} has the name of one of the paper's experiments: give it another")
    if not path.is_file():
        raise UserError(f"{path} does not exist: give a YAML file of rows")
    return path.stem


def data_of(experiment: str) -> list[str]:
    """The data sets that the paper has for an experiment; CIFAR-10 for a grid and for rows of your own."""
    if experiment not in TABLES:
        return ["cifar10"]
    return [name for name, rows in published()[experiment].items() if isinstance(rows, list)]


def rows_of(experiment: str, data: str, configs: Path) -> list[Row]:
    """The rows of an experiment for a data set; for one that the paper leaves out, those that have a config.

    Raises:
        UserError: no row of the experiment has a config for these data; a file of rows that is none.
    """
    if experiment in GRIDS:
        rows = GRIDS[experiment]()
    elif experiment not in TABLES:
        return read_rows(Path(experiment), data)
    elif data in published()[experiment]:
        return [_row(entry) for entry in published()[experiment][data]]
    else:
        rows = [Row(row["row"], row["config"]) for row in published()[experiment]["cifar10"]]
    rows = [row for row in rows if (configs / data / f"{row.config}.yaml").is_file()]
    if not rows:
        raise UserError(f"no row of {experiment} has a config for {data} in {configs}")
    return rows


OWN = ("name", "runs", "seed_everything", "data.source", "data.root", "ckpt_path", "overwrite")
"""Options that decide which run it is and where it lies."""


def refuse_own(options: Sequence[str], where: str) -> None:
    """Refuses options of `dim fit` that `dim reproduce` gives itself.

    Raises:
        UserError: there are such, or they are no options.
    """
    config = parse_options(options)
    found = [name for name in OWN if given(config, name.replace(".", ".init_args."))]
    if found:
        raise UserError(f"{where}: {', '.join(found)} is not an option here: `dim reproduce` gives it itself")


def read_rows(path: Path, data: str) -> list[Row]:
    """The rows of a file: `rows`, a list of `label`, `config` and, for `dim fit` on top of the config, `options`.

    A row without options stands beside the published numbers of its config's row in table 1, or else in table 5.

    Raises:
        UserError: the file is no YAML or holds no such list; a row that is none; two rows of one label.
    """
    entries = read_config(path).get("rows")
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path} holds no rows: give a list of label, config and options under 'rows'")
    rows: list[Row] = []
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or not {"label", "config"} <= entry.keys() <= {"label", "config", "options"}:
            raise UserError(f"{path}, row {number}: give label, config and, if you like, options: {entry}")
        label, options = str(entry["label"]), entry.get("options") or {}
        if not isinstance(options, dict):
            raise UserError(f"{path}, row {number}: options are NAME: VALUE, such as model.gamma: 0, not {options}")
        words = tuple(word for name, value in options.items() for word in (f"--{name}", _as_word(value)))
        refuse_own(words, f"{path}, row {number}")
        suffix = re.sub(r"[^\w.]+", "-", label).strip("-.") if words else ""
        if words and not suffix:
            raise UserError(f"{path}, row {number}: give the label '{label}' a letter or a number")
        places = (published_row(table, data, entry["config"]) for table in ("table1", "table5"))
        found = {} if words else next(filter(None, places), {})
        row = Row(label, entry["config"], _numbers(found), words, suffix)
        if any(row.label == other.label for other in rows):
            raise UserError(f"{path}, row {number}: another row has the label '{label}'")
        if any(row.name == other.name for other in rows):
            raise UserError(f"{path}, row {number}: another row has its runs in {row.name}: give it another label")
        rows.append(row)
    return rows


def _as_word(value: Any) -> str:
    """A YAML value as the command line has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _row(entry: dict[str, Any]) -> Row:
    return Row(entry["row"], entry["config"], _numbers(entry))


def _numbers(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in ("row", "config")}


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

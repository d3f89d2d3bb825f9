"""Tables as Markdown and LaTeX, and the results section of a README."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dim.errors import UserError
from dim.files import replacing
from dim.provenance import described, short
from dim.reporting.views import COST, TITLES, Cell, View, in_order, view
from dim.reproduction.tables import COLUMNS

BAR = "\\|"
BEGIN, END = "<!-- results: written by `dim report --readme`; do not edit -->", "<!-- end of results -->"


def markdown(table: View) -> str:
    """`published / ours (difference)` in each cell."""
    header = ["row", *COST, *(COLUMNS[column] for column in table.columns)]
    lines = [f"| {' | '.join(header)} |", f"|---|{'---:|' * (len(header) - 1)}"]
    for row in table.rows:
        words = [row.label + (f" ({row.note})" if row.note else ""), *row.cost]
        words += [_markdown_cell(row.cells.get(column)) for column in table.columns]
        lines.append(f"| {' | '.join(word.replace('|', BAR) for word in words)} |")
    return f"**{table.title}**. {table.about} Published / ours (difference).\n\n" + "\n".join(lines) + "\n"


def _markdown_cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    difference = "" if cell.difference is None else f" ({cell.difference:+.2f})"
    return f"{cell.published_text} / {cell.text}{difference}"


def latex(table: View) -> str:
    """A booktabs table: ours, and below it in grey the published number."""
    columns = "l" + "r" * (len(COST) + len(table.columns))
    names = ["", *COST, *(COLUMNS[column] for column in table.columns)]
    lines = [
        "% needs \\usepackage{booktabs,xcolor}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{_escape(table.title)}. {_escape(table.about)} Ours, and in grey the published number.}}",
        f"\\label{{tab:{table.key}}}",
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        " & ".join(map(_escape, names)) + r" \\",
        "\\midrule",
    ]
    for row in table.rows:
        cells, name = row.cells, _escape(row.label + (f" ({row.note})" if row.note else ""))
        ours = [_escape(cells[column].text) if column in cells else "" for column in table.columns]
        paper = [_escape(cells[column].published_text) if column in cells else "" for column in table.columns]
        grey = [f"\\textcolor{{gray}}{{{word}}}" if word else "" for word in paper]
        lines += [" & ".join([name, *row.cost, *ours]) + r" \\", " & ".join(["", *[""] * len(COST), *grey]) + r" \\"]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}", ""])


ESCAPES = {letter: f"\\{letter}" for letter in "&%_#${}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "±": r"$\pm$",
}


def _escape(text: str) -> str:
    escaped = "".join(ESCAPES.get(letter, letter) for letter in text)
    return re.sub("-(?=-)", "-{}", escaped)  # two would become a dash


def readme_section(contents: Sequence[dict[str, Any]]) -> str:
    """What a README says of results: their tables, and with what they were made."""
    if not contents:
        return "No results are kept yet.\n"
    parts = [markdown(view(content)) + "\n" + _made(content) for content in in_order(contents)]
    return "\n".join(parts)


def _made(content: dict[str, Any]) -> str:
    seeds = [seed["provenance"] for row in content["rows"] for seed in row["seeds"] if seed["cells"]]
    if not seeds:
        return "No row is finished.\n"
    sessions = [session for seed in seeds for session in seed["training"]]
    commits = sorted({short(session["versions"]["commit"]) for session in sessions})
    machines = sorted({described(session["machine"]) for session in sessions})
    training = sum(seed["training_seconds"] for seed in seeds) / 3600
    evaluation = sum(sum(seed["evaluation_seconds"].values()) for seed in seeds) / 3600
    own = content["experiment"] not in TITLES
    command = ["dim", "reproduce", f"{content['experiment']}.yaml" if own else content["experiment"]]
    command += ["--data", content["data"], "--budget", content["budget"]["name"]]
    if (most := max(len(row["seeds"]) for row in content["rows"])) > 1:
        command += ["--seeds", str(most)]
    if options := content["budget"].get("options"):
        command += ["--", *options]
    return (
        f"Commit {', '.join(commits)}; {'; '.join(machines)}; in all {training:.2f} h of training and "
        f"{evaluation:.2f} h of evaluation. `{shlex.join(command)}`\n"
    )


def update_readme(path: Path, contents: Sequence[dict[str, Any]]) -> None:
    """Rewrites what stands between the README's markers.

    Raises:
        UserError: the file has no markers.
    """
    text = path.read_text("utf-8")
    with replacing(path, "w") as file:
        file.write(with_section(text, readme_section(contents), path))


def with_section(text: str, section: str, path: Path, begin: str = BEGIN, end: str = END) -> str:
    """A page's text with `section` between its markers."""
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise UserError(f"{path} does not say where results belong: put these two lines there: {begin} and {end}")
    return f"{before}{begin}\n\n{section}\n{end}{after}"

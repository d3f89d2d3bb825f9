"""The report as one HTML file that needs nothing else: no scripts, no requests, pictures inside."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import yaml

from dim.reporting.views import Cell, View
from dim.reproduction.tables import COLUMNS

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --page: #ffffff; --card: #f6f8fa; --line: #d1d9e0;
  --link: #0969da; --above: 0, 114, 178; --below: 213, 94, 0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --page: #0d1117; --card: #161b22;
  --line: #3d444d; --link: #58a6ff; --above: 86, 180, 233; --below: 230, 120, 50; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 84rem; padding: 1rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { margin: .5rem 0 0; font-size: 1.7rem; } h2 { margin: 2.5rem 0 .5rem; padding-top: .5rem;
  border-top: 1px solid var(--line); font-size: 1.3rem; } h3 { margin: 1.5rem 0 .3rem; font-size: 1rem; }
a { color: var(--link); } p { margin: .4rem 0; } .soft { color: var(--soft); font-size: .875rem; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: 1rem 0; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; margin: .5rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line);
  vertical-align: top; } tr:last-child > * { border-bottom: 0; }
thead th { background: var(--card); }
tbody th { font-weight: 500; background: var(--page); }
tr > th:first-child { position: sticky; left: 0; max-width: 11rem; white-space: normal; }
.left, tbody th { text-align: left; }
td small, th small { display: block; opacity: .75; font-weight: 400; }
th small.note { color: rgb(var(--below)); opacity: 1; }
.above { background: rgba(var(--above), var(--depth)); } .below { background: rgba(var(--below), var(--depth)); }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); }
.grid.wide { grid-template-columns: minmax(0, 1fr); }
.wide figure { overflow-x: auto; } .wide figure img { min-width: 46rem; }
.wide figcaption { position: sticky; left: 0; }
figure { margin: 0; padding: .6rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .5rem; } figure img { display: block; max-width: 100%; height: auto;
  margin: 0 auto; background: #fff; border-radius: .25rem; } figcaption { margin-top: .4rem; color: var(--soft);
  font-size: .875rem; } details { margin: .3rem 0; } pre { overflow-x: auto; padding: .6rem; background: var(--card);
  border-radius: .5rem; font-size: .8rem; } code { font-size: .85em; }
"""


@dataclass(frozen=True)
class Picture:
    """An image file with what it shows, for those who see it and those who do not."""

    path: Path
    caption: str
    alt: str

    def html(self) -> str:
        kind = "svg+xml" if self.path.suffix == ".svg" else "png"
        data = base64.b64encode(self.path.read_bytes()).decode()
        image = f'<img src="data:image/{kind};base64,{data}" alt="{escape(self.alt)}">'
        return f"<figure>{image}<figcaption>{escape(self.caption)}</figcaption></figure>"


@dataclass
class Section:
    """A part of the page; `body` is HTML."""

    name: str
    title: str
    body: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.body.append(f'<p class="soft">{escape(text)}</p>')

    def show(self, pictures: Sequence[Picture], wide: bool = False) -> None:
        figures = "".join(picture.html() for picture in pictures)
        self.body.append(f'<div class="grid{" wide" if wide else ""}">{figures}</div>')


def page(title: str, about: str, sections: Sequence[Section]) -> str:
    """The whole document; sections without content are left out."""
    shown = [section for section in sections if section.body]
    links = "".join(f'<a href="#{section.name}">{escape(section.title)}</a>' for section in shown)
    body = "\n".join(
        f'<section id="{section.name}"><h2>{escape(section.title)}</h2>{"".join(section.body)}</section>'
        for section in shown
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # Nothing may be fetched, whatever a label or a path holds.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><header><h1>{escape(title)}</h1><p>{escape(about)}</p></header><nav>{links}</nav>\n"
        f"<main>{body}</main></body></html>\n"
    )


def table_html(table: View) -> str:
    """A table with differences coloured; each row's name leads to what made it."""
    head = "".join(f'<th scope="col">{escape(COLUMNS[column])}</th>' for column in table.columns)
    rows = []
    for row in table.rows:
        name, trained = escape(row.label), ""
        if row.seeds:
            name = f'<a href="#{anchor(table.key, row.label)}">{name}</a>'
            trained = f"{_amount(row.epochs or 0, 'epoch')}, {row.cost[1]} min, {_amount(row.seeds, 'seed')}"
            trained = f"<small>{escape(trained)}</small>"
        words = f"{name}{trained}{f'<small class=note>{escape(row.note)}</small>' if row.note else ''}"
        numbers = "".join(_cell_html(row.cells.get(column)) for column in table.columns)
        rows.append(f'<tr><th scope="row">{words}</th>{numbers}</tr>')
    published = any(cell.published is not None for row in table.rows for cell in row.cells.values())
    key = (
        ", the difference from the paper and the published number" if published else "; nothing to compare is published"
    )
    return (
        f"<h3>{escape(table.title)}</h3><p class=soft>{escape(table.about)} Each cell: ours (± deviation){key}.</p>"
        f'<div class="scroll"><table><thead><tr><th scope="col" class="left">row</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _amount(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _cell_html(cell: Cell | None) -> str:
    if cell is None:
        return "<td></td>"
    difference = "" if cell.difference is None else f"{cell.difference:+.2f} from ".replace("-", "\u2212")
    paper = "" if cell.published is None else f"<small>{difference}{escape(cell.published_text)}</small>"
    over = cell.over if cell.over.startswith("within") else f"over {cell.over}"
    title = f' title="deviation {escape(over)}"' if cell.std is not None else ""
    if cell.shade is None:
        return f"<td{title}>{escape(cell.text)}{paper}</td>"
    side, depth = ("above" if cell.shade >= 0 else "below"), 0.08 + 0.37 * abs(cell.shade)
    return f'<td class="{side}" style="--depth: {depth:.2f}"{title}>{escape(cell.text)}{paper}</td>'


def anchor(key: str, label: str) -> str:
    """The id of a row's provenance."""
    return "made-" + "".join(letter if letter.isalnum() else "-" for letter in f"{key}-{label}")


def provenance_html(content: dict[str, Any], table: View) -> str:
    """What made each number of a table: config, seed, commit, versions, machine, wall time."""
    parts = []
    for row in content["rows"]:
        seeds = [seed for seed in row["seeds"] if seed["cells"]]
        if seeds:
            inner = "".join(_seed_html(seed) for seed in seeds)
            parts.append(
                f'<details id="{anchor(table.key, row["row"])}"><summary>{escape(row["row"])}: {len(seeds)} '
                f"seed{'s' if len(seeds) > 1 else ''}</summary>{inner}</details>"
            )
    return f"<h3>{escape(table.title)}</h3>{''.join(parts)}" if parts else ""


def _seed_html(seed: dict[str, Any]) -> str:
    made = seed["provenance"]
    facts: list[tuple[str, Any]] = [("seed", seed["seed"]), ("command", made["command"])]
    facts += [(name.replace("_", " "), made[name]) for name in ("config_sha256", "checkpoint_sha256")]
    facts += [("data sha256", made["data_fingerprint"]), ("steps", made["global_step"])]
    for session in made["training"]:
        facts.append(("trained", f"{session['began']}, {session['seconds']} s, on {_flat(session['machine'])}"))
        facts.append(("with", _flat(session["versions"])))
    for group in made["evaluation"]:
        names = ", ".join(group["evaluations"])
        facts.append(("evaluated", f"{names} on {group['device']}, with {_flat(group['versions'])}"))
    facts.append(("seconds of evaluation", _flat(made["evaluation_seconds"])))
    lines = "".join(f"<li>{escape(name)}: <code>{escape(str(value))}</code></li>" for name, value in facts)
    config = escape(yaml.safe_dump(made["config"], sort_keys=False))
    return f"<ul class=soft>{lines}</ul><details><summary>config</summary><pre>{config}</pre></details>"


def _flat(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())

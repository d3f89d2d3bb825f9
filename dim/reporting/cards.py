"""Cards of released encoders, and the table of all of them: written from files, never by hand."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from dim import release
from dim.evaluation.battery import EVALUATIONS
from dim.evaluation.settings import PROTOCOLS
from dim.files import replacing
from dim.networks.encoders import LAYERS, encoder_class
from dim.provenance import short
from dim.reporting.text import with_section
from dim.reporting.views import DATA
from dim.reproduction import tables
from dim.reproduction.runs import read_evaluation

BEGIN = "<!-- released encoders: written by `dim export` and `dim evaluate`; do not edit -->"
END = "<!-- end of released encoders -->"
PAPER_EPOCHS = 1000
TOLD = ("loss", "standardised", "run_fraction", "neighbours", "temperature")
"""Settings that no protocol holds, since they are an evaluation's own, but its results tell."""
CHOSEN = ("cost", "dropout", "weight_decay")
"""Settings that a protocol may leave to be chosen for each layer; results then tell."""


def evaluations(folder: Path, sha256: str) -> list[dict[str, Any]]:
    """What the results files in a folder say of the checkpoint or file with this hash, the quick protocol first.

    Those that were put aside for others are left out.
    """
    found = []
    for path in sorted(folder.glob("evaluation*.json")):
        content = read_evaluation(path)
        if content is None or content["identity"]["checkpoint_sha256"] != sha256:
            continue
        if "aside_of" in content:
            continue  # of settings, seeds or images that are not those asked for last
        source = content["identity"]["data"]["source"]
        rows = tables.rows(content["results"], source, tables.published_config(content))
        kept = {name: content[name] for name in ("identity", "wall_time", "provenance")}
        short = tables.unconverged(content["results"])
        found.append({**kept, "settings": _settings(content), "rows": rows, "unconverged": short})
    order = list(PROTOCOLS)
    return sorted(found, key=lambda one: (order.index(one["identity"]["protocol"]["name"]), _key(one)[1]))


def _settings(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What each evaluation was done with: the protocol's settings, and those that its results tell."""
    protocol, found = content["identity"]["protocol"], {}
    for name, layers in content["results"].items():
        metrics = next(iter(layers.values()))
        # The seed is the command's; a protocol's own is a place for it.
        own = {key: value for key, value in (protocol.get(name) or {}).items() if key != "seed"}
        settings = {**own, **{key: metrics[key] for key in TOLD if key in metrics}}
        tried = metrics.get("runs", [metrics])[0].get("validation_accuracies")  # none for a cost that was fixed
        chosen = (key for key in CHOSEN if key in metrics and (key != "cost" or tried))
        for key in chosen:
            settings[f"chosen {key}"] = ", ".join(
                f"{layer} {layers[layer][key]}" for layer in LAYERS if layer in layers
            )
        if name == "svm" and protocol.get("raw_costs"):
            settings["raw_costs"] = protocol["raw_costs"]
        if settings:
            found[name] = settings
    return found


def of_file(path: Path) -> list[dict[str, Any]]:
    """The evaluations of a released file itself."""
    return evaluations(path.with_suffix(""), release.read_record(path)["sha256"])


def card(path: Path) -> str:
    """The card of a released file, as Markdown.

    Numbers of the checkpoint that the file was exported from give way to those of the file itself.
    """
    record = release.read_record(path)
    own = of_file(path)
    known = {_key(one) for one in own}
    return text(path.name, record, [*own, *(one for one in record["evaluations"] if _key(one) not in known)])


def write(path: Path) -> Path:
    """Writes the card of an exported file, and the table of its folder's into the README beside it if that has a place.

    The checkout's README has the table of the released ones, those of `checkpoints/`, alone.
    """
    place = path.with_suffix(".md")
    with replacing(place, "w") as file:
        file.write(card(path))
    above = [path.parent.parent / "README.md"] if path.parent.resolve() == release.FOLDER.resolve() else []
    for page in (path.parent / "README.md", *above):
        if page.is_file():
            before = page.read_text("utf-8")
            if (after := with_table(before, path.parent, page)) != before:
                with replacing(page, "w") as file:
                    file.write(after)
    return place


def with_table(content: str, folder: Path, page: Path) -> str:
    """A page with the table of a folder's encoders between its markers; a page without them as it is."""
    return with_section(content, index(folder), page, BEGIN, END) if BEGIN in content else content


def _key(evaluation: dict[str, Any]) -> tuple[Any, ...]:
    identity = evaluation["identity"]
    data = identity["data"]
    images = data["source"], data.get("validation", 0), data["fingerprint"]
    return *images, identity["protocol"]["name"], tuple(identity["seeds"])


def text(file: str, record: dict[str, Any], measured: Iterable[dict[str, Any]]) -> str:
    """The card as Markdown."""
    facts, name = record["metadata"], Path(file).stem
    config = yaml.safe_load(facts.get("training_config", "{}"))
    size, layers = facts["image_size"], ", ".join(f'"{layer}"' for layer in encoder_class(facts["encoder"]).layers)
    data = f" on {_data(facts['data'])}" if "data" in facts else ""
    method = f", trained by `{facts['model']}`{data}" if "model" in facts else data
    parts = [
        f"# {name}\n",
        f"The encoder `{facts['encoder']}` with a code of {facts['code_size']} numbers{method}. "
        "Written by `dim export` and `dim evaluate` from the files beside this one.\n",
        "```python\nimport dim\n\n"
        f'encoder = dim.load_pretrained("{name}")\n'
        f"features = encoder.features(images)  # (N, 3, {size}, {size}) in [-1, 1] -> {{{layers}}}\n"
        "```\n",
        _table(["", ""], [[key, value] for key, value in _facts(file, record, config).items()]),
        *(_evaluation(one, record, file) for one in measured),
        "## Limits\n",
        "\n".join(f"* {limit}" for limit in _limits(facts, config, record)) + "\n",
    ]
    if config:
        training = facts["training_config"].rstrip()
        parts.append(f"## Training config\n\n`config.yaml` of the command above.\n\n```yaml\n{training}\n```\n")
    return "\n".join(parts)


def _facts(file: str, record: dict[str, Any], config: dict[str, Any]) -> dict[str, str]:
    facts, made = record["metadata"], record["exported_with"]
    commit = f", commit {short(made['commit'])}" if made.get("commit") else ""
    lines = {
        "file": f"`{file}`, {record['bytes'] / 1e6:.1f} MB, weights in {facts['precision']}",
        "SHA-256": f"`{record['sha256']}`",
        "takes": f"RGB {facts['scaling']}, {facts['image_size']} x {facts['image_size']} pixels",
    }
    if "data" in facts:
        held_out = config.get("data", {}).get("init_args", {}).get("validation")
        without = f" without {held_out} held-out images" if held_out else ""
        lines["data"] = f"{_data(facts['data'])}, the training split{without}"
    if "epoch" in facts:
        most = config.get("trainer", {}).get("max_epochs")
        seed = config.get("seed_everything")
        lines["trained"] = (
            f"epoch {facts['epoch'] + 1}" + (f" of {most}" if most else "") + f", {facts['global_step']:,} steps"
        ) + (f", seed {seed}" if seed is not None else "")
    if "seconds" in record["cost"]:
        lines["cost"] = cost_text(record["cost"])
    if config:
        lines["command"] = (
            "`dim fit --config config.yaml --data.root DATA`, with the config at the end of this card as `config.yaml`"
        )
    by = f" ({', then '.join(map(_short, facts['commits']))})" if "commits" in facts else ""
    version = f"trained with deep-infomax {facts['version']}{by}, " if "version" in facts else ""
    lines["made by"] = f"{version}exported with {made['deep-infomax']}{commit}, torch {made['torch']}"
    lines["from"] = f"the checkpoint with SHA-256 `{facts['checkpoint_sha256']}`"
    lines["licence"] = facts["licence"]
    if "note" in record:
        lines["note"] = record["note"]
    return lines


def _short(code: str) -> str:
    """A commit, shortened, or a version as it is."""
    return code if code.startswith("version") else f"commit {short(code)}"


def cost_text(cost: dict[str, Any]) -> str:
    """`21.3 min in 1 session by its log, on ...`."""
    sessions = f"{cost['sessions']} session{'s' if cost['sessions'] > 1 else ''}"
    place = f", on {'; '.join(cost['machines'])}" if "machines" in cost else ""
    return f"{cost['seconds'] / 60:.1f} min in {sessions}, from first to last entry of the training log{place}"


def _evaluation(one: dict[str, Any], record: dict[str, Any], file: str) -> str:
    """One protocol's numbers: ours, and in brackets the paper's."""
    identity, facts = one["identity"], record["metadata"]
    protocol, source = identity["protocol"], identity["data"]["source"]
    layers = [layer for layer in LAYERS if any(row["layer"] == layer for row in one["rows"])]
    labels = list(dict.fromkeys(row["label"] for row in one["rows"]))
    cells = {(row["label"], row["layer"]): _cell(row) for row in one["rows"]}
    lines = [[label, *(cells.get((label, layer), "") for layer in layers)] for label in labels]
    itself = identity["checkpoint_sha256"] == record["sha256"]
    same = "whose weights it has" if facts["precision"] == "float32" else "whose weights it has rounded"
    of = "this file" if itself else f"the checkpoint that this file was exported from, {same}"
    # "knn (y)" are earlier layers of knn, made with something else.
    done = [name for name in one["provenance"] if name != "classifier" and "(" not in name]
    seeds = f" --seed {identity['seeds'][0]} --seeds {len(identity['seeds'])}" if identity["seeds"] != [0] else ""
    what = Path(file).stem if itself else "RUN"
    held_out = identity["data"].get("validation", 0)
    images = f"{held_out} held-out training images" if held_out else "the test split"
    options = f"{seeds} --data.source {source}" if source != facts.get("data") else seeds
    options += f" --data.validation {held_out}" if held_out else ""
    options += "" if source == "digits" else " --data.root DATA"
    commands = ", ".join(
        f"`dim evaluate {what} --protocol {protocol['name']} --only {only}{options}`"
        for only in _choices(one["rows"], done, encoder_class(facts["encoder"]).layers)
    )
    commits = sorted({short(made["versions"]["commit"]) for made in one["provenance"].values()})
    times = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in one["wall_time"].items() if name != "classifier")
    devices = ", ".join(sorted({made["device"] for made in one["provenance"].values()}))
    published = " In brackets the published number." if any("(" in cell for cell in cells.values()) else ""
    settings = [
        f"* `{name}`: {', '.join(f'{key} {value}' for key, value in values.items())}"
        for name, values in one["settings"].items()
    ]
    return "\n".join(
        [
            f"## {_data(source)}, {protocol['name']} protocol{', held-out images' if held_out else ''}\n",
            f"Of {of}, on {images}.{published} {commands}; commit {', '.join(commits)}; {times} on {devices}.\n",
            _table(["", *layers], lines),
            *settings,
            *(f"* not converged: {line}" for line in one.get("unconverged", [])),
            "",
        ]
    )


def _choices(rows: Sequence[dict[str, Any]], done: Sequence[str], layers: Sequence[str]) -> list[str]:
    """What `--only` was: the evaluations of all layers that they can be of, and those of fewer with `--layers`."""
    groups: dict[str, list[str]] = {}
    for name in done:
        found = {row["layer"] for row in rows if row["evaluation"] == name}
        missing = set(EVALUATIONS[name].of(layers)) - found
        fewer = f" --layers {','.join(layer for layer in layers if layer in found)}" if missing else ""
        groups.setdefault(fewer, []).append(name)
    return [",".join(names) + fewer for fewer, names in groups.items()]


def _cell(row: dict[str, Any]) -> str:
    ours = tables.cell_text(row["ours"], row["ours_std"])
    published = tables.cell_text(row["published"], row["published_std"])
    return ours if row["published"] is None else f"{ours} ({published})"


def _limits(facts: dict[str, Any], config: dict[str, Any], record: dict[str, Any]) -> list[str]:
    limits = [
        f"It knows {facts['image_size']} x {facts['image_size']} pixels; larger images lose what resizing takes.",
        "The encoder alone: critics, decoders, classifiers and the optimiser are not in the file, so that it cannot be "
        "trained on from where it stopped.",
        "One training run: how far another seed would differ is not known from it.",
    ]
    if "data" in facts:
        data = _data(facts["data"])
        limits.insert(0, f"It has seen {data} alone: of other images nothing is known but what stands above.")
    epochs = facts.get("epoch", PAPER_EPOCHS) + 1
    if epochs < PAPER_EPOCHS and facts.get("data") in ("cifar10", "cifar100"):
        limits.append(f"It was trained for {epochs} epochs, the paper's encoders for {PAPER_EPOCHS}.")
    options = config.get("model", {}).get("init_args", {})
    if options.get("init_from"):
        start, known = options["init_from"], facts.get("started_from")
        which = f"SHA-256 `{known}`" if known else "as they were then"
        limits.append(f"It started from the weights in {start} ({which}): what those have seen, it has, too.")
    if options.get("views"):
        limits.append(
            "It learnt from augmented views, which is not the paper's method: published numbers are of another."
        )
    if ghost := options.get("ghost_batch"):
        limits.append(
            f"It learnt from codes by batch norm over {ghost} images at a time, which is not the paper's method: "
            "published numbers are of another."
        )
    if facts["precision"] == "float16":
        limits.append("Weights are rounded to float16; loaded, they are float32.")
    return limits


def index(folder: Path) -> str:
    """The table of a folder's encoders: MLP probes of exactly these files, on test images of what they learnt from."""
    lines = []
    for name in release.names(folder):
        path = folder / f"{name}{release.SUFFIX}"
        record = release.read_record(path)
        facts, cost = record["metadata"], record["cost"]
        about = [
            f"`{name}`",
            _data(facts.get("data", "")),
            str(facts["epoch"] + 1) if "epoch" in facts else "",
            f"{cost['seconds'] / 60:.0f}" if "seconds" in cost else "",
            f"{record['bytes'] / 1e6:.1f}",
        ]
        measured = [_probes(one) for one in of_file(path) if _on_test_images(one, facts)]
        for probes in [cells for cells in measured if any(cells[1:])] or [["not evaluated", *[""] * len(LAYERS)]]:
            lines.append([*about, *probes, f"`{record['sha256'][:12]}`"])
    head = ["encoder", "data", "epochs", "minutes", "MB", "protocol", *LAYERS, "SHA-256"]
    return _table(head, lines) if lines else "None yet.\n"


def _on_test_images(evaluation: dict[str, Any], facts: dict[str, Any]) -> bool:
    """Whether an evaluation is on the test images of what the encoder was trained on."""
    data = evaluation["identity"]["data"]
    return data["source"] == facts.get("data") and not data.get("validation")


def _probes(evaluation: dict[str, Any]) -> list[str]:
    """The protocol, and the MLP probe of each layer."""
    cells: dict[str, str] = {}
    for row in evaluation["rows"]:
        if row["metric"] == "accuracy_last_k":  # table 1's published number before table 5's
            cells.setdefault(row["layer"], _cell(row))
    return [evaluation["identity"]["protocol"]["name"], *(cells.get(layer, "") for layer in LAYERS)]


def _data(source: str) -> str:
    return DATA.get(source, source)


def _table(head: list[str], lines: Iterable[list[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"

"""Figures of measured numbers."""

from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dim.networks.encoders import LAYERS
from dim.plots import figure
from dim.reporting.views import DATA

COLOURS = {"dim_local": "#0072b2", "dim": "#d55e00", "supervised": "#000000"}
OTHERS = "#7f7f7f"
MLP, SVM = "mlp/accuracy_last_k", "svm/accuracy"


def colour(config: str) -> str:
    """One colour for local DIM, one for other DIM, black for supervised, grey for baselines."""
    return next((shade for prefix, shade in COLOURS.items() if config.startswith(prefix)), OTHERS)


def finished(content: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(row, seed) of every run of which there are numbers."""
    for row in content["rows"]:
        for seed in row["seeds"]:
            if seed["cells"]:
                yield row, seed


def cost(contents: Sequence[dict[str, Any]]) -> Figure | None:
    """Accuracy of the MLP on Y (supervised: of its classifier) against epochs and time of training, by data set.

    On test images; of an encoder that several tables show, the first one's number.
    """
    points: dict[str, dict[str, tuple[tuple[str, str], int, float, float]]] = {}
    for content in contents:
        if content["experiment"] in GRIDS or content.get("validation"):
            continue  # its own figure shows it, or it is not to be compared
        for row, seed in finished(content):
            cells = seed["cells"]
            cell = cells.get("classifier/accuracy/y") or cells.get(f"{MLP}/y")
            if cell and row["epochs"]:
                made = seed["provenance"]
                name = row["row"], row["config"]
                point = (name, row["epochs"], made["training_seconds"] / 60, cell["value"])
                points.setdefault(content["data"], {}).setdefault(made["checkpoint_sha256"], point)
    if not points:
        return None
    made, axes = figure(len(points), 2, 5.2, 4.2)
    for place, (data, found) in enumerate(points.items()):
        by_epochs, by_time = axes[2 * place : 2 * place + 2]
        for (_, config), epochs, minutes, value in found.values():
            by_epochs.plot(epochs, value, "o", color=colour(config), alpha=0.7)
            by_time.plot(max(minutes, 1 / 60), value, "o", color=colour(config), alpha=0.7)
        _name(by_time, [(max(minutes, 1 / 60), value, name) for name, _, minutes, value in found.values()])
        for axis, what in ((by_epochs, "epochs"), (by_time, "minutes of training")):
            axis.set(xlabel=what, ylabel="accuracy on Y, %", title=DATA.get(data, data))
            axis.grid(color="#eeeeee")
            axis.margins(0.12)
        seen = sorted({epochs for _, epochs, _, _ in found.values()})
        if seen[-1] >= 20 * seen[0]:
            by_epochs.set_xscale("log")
            by_time.set_xscale("log")
        by_epochs.set_xticks(seen, [str(epochs) for epochs in seen], minor=False)
        by_time.margins(x=0.35)  # room for names
    return made


def _name(axis: Axes, points: Sequence[tuple[float, float, tuple[str, str]]]) -> None:
    """Labels to the right of points, in the colour of their config, moved up where one would cover another."""
    values = [value for _, value, _ in points]
    gap = max(1e-9, (max(values) - min(values)) * 0.055)
    lowest = -float("inf")
    for x, value, (name, config) in sorted(points, key=lambda point: point[1]):
        lowest = max(value, lowest + gap)
        axis.annotate(
            name, (x, lowest), (6, 0), textcoords="offset points", fontsize=7, color=colour(config), va="center"
        )


def against_published(content: dict[str, Any]) -> Figure | None:
    """The MLP's accuracies beside the paper's, layer by layer."""
    rows = [row for row in content["rows"] if row["ours"].keys() & {*LAYERS} and row["published"].keys() & {*LAYERS}]
    if not rows:
        return None
    made, axes = figure(1, 3, 3.6, 1.2 + 0.3 * len(rows))
    for axis, layer in zip(axes, LAYERS, strict=True):
        for place, row in enumerate(rows):
            ours, paper = row["ours"].get(layer, {}).get("mean"), row["published"].get(layer)
            if ours is not None and paper is not None:
                axis.plot([ours, paper], [place, place], color="#cccccc", zorder=1)
            if paper is not None:
                axis.plot(paper, place, "o", mfc="white", color="#333333", label="published")
            if ours is not None:
                axis.plot(ours, place, "o", color=colour(row["config"]), label="ours")
        _rows(axis, [row["row"] for row in rows], layer, axis is axes[0])
    _legend(made)
    return made


def svm_beside_mlp(content: dict[str, Any]) -> Figure | None:
    """Accuracies of MLP and linear SVM on the same frozen layers, one seed of each row that has both."""
    rows: dict[str, dict[str, Any]] = {}
    for row, seed in finished(content):
        if any(f"{MLP}/{layer}" in seed["cells"] and f"{SVM}/{layer}" in seed["cells"] for layer in LAYERS):
            rows.setdefault(row["row"], seed["cells"])
    if not rows:
        return None
    made, axes = figure(1, 3, 3.6, 1.2 + 0.3 * len(rows))
    for axis, layer in zip(axes, LAYERS, strict=True):
        for place, cells in enumerate(rows.values()):
            pair = [cells.get(f"{probe}/{layer}", {}).get("value") for probe in (MLP, SVM)]
            if None not in pair:
                axis.plot(pair, [place, place], color="#cccccc", zorder=1)
                axis.plot(pair[0], place, "o", color="#0072b2", label="MLP")
                axis.plot(pair[1], place, "s", color="#d55e00", label="linear SVM")
        _rows(axis, list(rows), layer, axis is axes[0])
    _legend(made)
    return made


def _legend(made: Figure) -> None:
    """One entry for each label of all panels, in the first."""
    entries: dict[str, Artist] = {}
    for axis in made.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    made.axes[0].legend([*entries.values()], [*entries], fontsize=7)


def _rows(axis: Axes, labels: Sequence[str], layer: str, named: bool) -> None:
    axis.set(xlabel="accuracy, %", title=layer, yticks=range(len(labels)))
    axis.set_yticklabels(labels if named else [], fontsize=8)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.grid(axis="x", color="#eeeeee")


def negatives(content: dict[str, Any]) -> Figure | None:
    """Accuracy against the number of negatives, one line for each objective."""
    rows = [row for row in content["rows"] if row["ours"]]
    if not rows:
        return None
    made, axes = figure(1, 3, 3.6, 3.2)
    for axis, layer in zip(axes, LAYERS, strict=True):
        for shade, objective in enumerate(dict.fromkeys(row["place"]["objective"] for row in rows)):
            line = sorted(
                (row["place"]["negatives"], row["ours"][layer]["mean"], row["ours"][layer]["std"] or 0.0)
                for row in rows
                if row["place"]["objective"] == objective and layer in row["ours"]
            )
            counts, means, deviations = ([point[part] for point in line] for part in range(3))
            axis.errorbar(counts, means, deviations, marker="o", capsize=2, color=f"C{shade}", label=objective)
        axis.set(xscale="log", xlabel="negatives for each positive", ylabel="accuracy, %", title=layer)
        axis.grid(color="#eeeeee")
    _legend(made)
    return made


def weights(content: dict[str, Any]) -> Figure | None:
    """Accuracy on Y over alpha and beta, one panel for each gamma."""
    found = {
        tuple(row["place"][name] for name in ("gamma", "alpha", "beta")): row["ours"]["y"]["mean"]
        for row in content["rows"]
        if "y" in row["ours"]
    }
    if not found:
        return None
    gammas, alphas, betas = (sorted({key[part] for key in found}) for part in range(3))
    made, axes = figure(1, len(gammas), 3.2, 3.0)
    for axis, gamma in zip(axes, gammas, strict=True):
        grid = [[found.get((gamma, alpha, beta), float("nan")) for beta in betas] for alpha in alphas]
        axis.imshow(grid, vmin=min(found.values()), vmax=max(found.values()), cmap="cividis", origin="lower")
        for y, line in enumerate(grid):
            for x, value in enumerate(line):
                if value == value:
                    box = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1.5}
                    axis.text(x, y, f"{value:.1f}", ha="center", va="center", fontsize=8, bbox=box)
        axis.set(xticks=range(len(betas)), yticks=range(len(alphas)), xlabel="beta", ylabel="alpha")
        axis.set_xticklabels(f"{beta:g}" for beta in betas)
        axis.set_yticklabels(f"{alpha:g}" for alpha in alphas)
        axis.set_title(f"gamma {gamma:g}")
    return made


GRIDS = {"negatives": negatives, "weights": weights}

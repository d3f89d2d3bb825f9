"""One relation in three shapes under noise: an equitable measure depends on the noise alone (MINE, section 4.3)."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from dim import plots
from dim.devices import choose_device
from dim.errors import UserError
from dim.mine.experiments import measure
from dim.mine.experiments.measure import NAMES, EstimatorName, Training
from dim.mine.results import FOLDER, Cells, Setting
from dim.mine.samplers import FUNCTIONS, Noisy
from dim.progress import Report, bars


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a protocol runs: training, levels of noise, estimators and number of seeds."""

    training: Training
    sigma: tuple[float, ...]
    estimators: tuple[str, ...]
    seeds: int


TRAINING = Training(steps=1500, batch_size=256, negatives=4, test_negatives=10, widths=(256, 256), learning_rate=4e-3)
"""A second layer learns the log ratio of x^3, a polynomial of degree six, sooner."""
PROTOCOLS = {
    "quick": Plan(TRAINING, (0.1, 0.3, 0.5, 0.7, 0.9), ("jsd", "kraskov"), 1),
    "full": Plan(
        dataclasses.replace(TRAINING, steps=3000, kraskov_pairs=10_000),
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        ("dv", "jsd", "nwj", "kraskov"),
        5,
    ),
}


def equitability(
    protocol: Literal["quick", "full"] = "quick",
    sigma: Sequence[float] | None = None,
    size: int = 2,
    estimators: Sequence[EstimatorName] | None = None,
    seeds: int | None = None,
    output: str = FOLDER,
    device: str = "auto",
) -> None:
    """Estimates I(X; Y) of Y = f(X) + sigma eps, X uniform on (-1, 1)^2, f one of x, x^3 and sin x.

    The truth, by quadrature, is not quite the same for the three: it stands beside the estimates. jsd is a critic that
    learns by the Jensen-Shannon objective and reports DV on 100,000 fresh pairs. Width and rate were chosen on x^3 at
    sigma 0.1 with seed 100, which is not reported. Run again, only what is missing is estimated.

    Args:
        protocol: quick takes minutes on two cores (five levels of noise, one seed), full hours (nine, five seeds,
            longer training).
        sigma: levels of noise; by default the protocol's.
        size: number of components.
        estimators: objectives of MINE or kraskov; by default the protocol's.
        seeds: number of seeds; by default the protocol's.
        output: folder of the results.
        device: cpu, cuda, cuda:1 ...; auto takes a GPU if there is one.
    """
    plan, place = PROTOCOLS[protocol], choose_device(device)
    levels = tuple(sigma or plan.sigma)
    if min(levels) <= 0 or size < 1 or (seeds is not None and seeds < 1):
        raise UserError("equitability: sigma is above 0, size and seeds are at least 1")
    chosen = tuple(estimators or plan.estimators)
    settings: list[Setting] = [
        {"size": size, "function": function, "sigma": s, "estimator": name, "seed": seed}
        for name in chosen
        for function in FUNCTIONS
        for s in levels
        for seed in range(seeds or plan.seeds)
    ]
    stem = "equitability" if protocol == "quick" else f"equitability-{protocol}"
    cells = Cells(Path(output) / f"{stem}.json", dataclasses.asdict(plan.training), {"experiment": "equitability"})

    def run(setting: Setting, progress: Report) -> dict[str, Any]:
        pair = Noisy(setting["function"], setting["sigma"], setting["size"])
        return measure.estimate(pair, setting["estimator"], plan.training, setting["seed"], place, progress)

    with bars() as progress:
        rows = cells.run(settings, run, progress, "equitability")
    entries = measure.summary(rows, "estimator", "function", "sigma")
    found: Found = {(entry["estimator"], entry["function"], entry["sigma"]): entry for entry in entries}
    _print(found, chosen, levels)
    table = cells.write_csv(rows)
    picture = plots.save(_heat_map(found, chosen, levels), cells.path.with_suffix(".png"))
    print("results:", *(str(path) for path in (cells.path, table, picture)), sep="\n  ")


Found = dict[tuple[str, str, float], dict[str, Any]]
"""(estimator, function, sigma) -> mean and deviation over seeds, and the truth."""


def _print(found: Found, estimators: Sequence[str], sigma: Sequence[float]) -> None:
    table = Table(title="I(X; f(X) + sigma eps) in nats, mean over seeds (* within 5 % or 0.1 nat in all)")
    for column in ("f", "sigma", "truth", *(NAMES.get(name, name) for name in estimators)):
        table.add_column(column, justify="right")
    for function in FUNCTIONS:
        for s in sigma:
            entries = [found[name, function, s] for name in estimators]
            texts = [_text(e) for e in entries]
            table.add_row(function, f"{s:g}", f"{entries[0]['truth']:.3f}", *texts)
    Console().print(table)
    for name in estimators:
        gaps = {key: entry["mean"] - entry["truth"] for key, entry in found.items() if key[0] == name}
        worst = max(gaps, key=lambda key: abs(gaps[key]))
        print(f"{NAMES.get(name, name)}: furthest off at f = {worst[1]}, sigma = {worst[2]:g}: {gaps[worst]:+.3f} nats")


def _text(entry: Mapping[str, Any]) -> str:
    lost = f", {entry['diverged']} {measure.DIVERGED}" if entry["diverged"] else ""
    return f"{entry['mean']:.3f}{'*' if entry['right'] == entry['seeds'] else ' '}{lost}"


def _heat_map(found: Found, estimators: Sequence[str], sigma: Sequence[float]) -> Any:
    """A map for the truth and for each estimator: functions down, noise across, nats as colours and numbers."""
    figure, grid = plots.figure(1 + len(estimators), 1, width=8, height=1.9)
    top = max(entry["truth"] for entry in found.values())
    for axes, name in zip(grid, ("truth", *estimators), strict=True):
        field = "truth" if name == "truth" else "mean"
        who = estimators[0] if name == "truth" else name
        values = [[found[who, function, s][field] for s in sigma] for function in FUNCTIONS]
        image = axes.imshow(values, vmin=0, vmax=top, cmap="viridis", aspect="auto")
        for row, line in enumerate(values):
            for column, value in enumerate(line):
                text = "-" if math.isnan(value) else f"{value:.2f}"
                colour = "black" if value > 0.6 * top else "white"
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize="small")
        axes.set_xticks(range(len(sigma)), [f"{s:g}" for s in sigma])
        axes.set_yticks(range(len(FUNCTIONS)), list(FUNCTIONS))
        axes.set_title(NAMES.get(name, name), fontsize="medium")
    grid[-1].set_xlabel("sigma")
    figure.colorbar(image, ax=grid, label="nats")
    return figure

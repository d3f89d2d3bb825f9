"""Estimators against the truth on correlated Gaussians (Belghazi et al. 2018, section 4.1 and figure 1)."""

import dataclasses
import math
import statistics
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from rich.console import Console
from rich.table import Table

from dim import plots
from dim.devices import choose_device
from dim.errors import UserError
from dim.mine import MINE
from dim.mine.estimator import DivergenceError
from dim.mine.experiments import measure
from dim.mine.experiments.measure import NAMES, EstimatorName, Training
from dim.mine.kraskov import kraskov
from dim.mine.results import FOLDER, Cells, Setting
from dim.mine.samplers import Correlated
from dim.progress import Report, bars

RHO = (-0.99, -0.9, -0.7, -0.62, -0.5, -0.3, -0.1, 0.0, 0.1, 0.3, 0.5, 0.62, 0.7, 0.9, 0.99)
"""The 0.62 is 0.24 nats a component: 4.9 nats for the paper's 20."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a protocol runs.

    Attributes:
        rho: the grid of correlations; by symmetry its positive half tells the same.
        estimators: of that grid.
        seeds: their number.
        samples: numbers of pairs of the consistency plot.
        sample_seeds: seeds of that.
    """

    training: Training
    rho: tuple[float, ...]
    estimators: tuple[str, ...]
    seeds: int
    samples: tuple[int, ...]
    sample_seeds: int


PROTOCOLS = {
    "quick": Plan(Training(), (0.0, 0.3, 0.6, 0.9), ("dv", "jsd", "nwj", "kraskov"), 1, (500, 2000, 8000), 1),
    "full": Plan(
        Training(steps=3000, kraskov_pairs=10_000),
        RHO,
        ("dv", "jsd", "nwj", "infonce", "js", "smile", "kraskov"),
        5,
        (250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000),
        5,
    ),
}


def gaussians(
    protocol: Literal["quick", "full"] = "quick",
    sizes: Sequence[int] = (2, 20),
    rho: Sequence[float] | None = None,
    estimators: Sequence[EstimatorName] | None = None,
    seeds: int | None = None,
    consistency_rho: float = 0.5,
    output: str = FOLDER,
    device: str = "auto",
) -> None:
    """Estimates the information of Gaussian pairs, componentwise correlated, and shows estimates beside the truth.

    MINE trains on fresh pairs at each step and reports on 100,000 others. jsd is a critic that learns by the
    Jensen-Shannon objective, without exponentials, and reports DV, its own having no estimate. Kraskov's estimator is
    given one sample. The plot of consistency instead gives each estimator n pairs in all, which MINE splits into
    training, stopping and reporting. Run again, only what is missing is estimated.

    Args:
        protocol: quick takes minutes on two cores (four correlations, one seed, four estimators), full hours
            (fifteen, five seeds, seven).
        sizes: numbers of components.
        rho: correlations; by default the protocol's.
        estimators: objectives of MINE or kraskov; by default the protocol's. The plot of consistency has dv, jsd, nwj
            and kraskov only.
        seeds: number of seeds; by default the protocol's.
        consistency_rho: correlation of the plot of consistency.
        output: folder of the results.
        device: cpu, cuda, cuda:1 ...; auto takes a GPU if there is one.
    """
    plan, place = PROTOCOLS[protocol], choose_device(device)
    correlations = tuple(plan.rho if rho is None else rho)
    if (
        not all(-1 < r < 1 for r in (*correlations, consistency_rho))
        or not correlations
        or min(sizes, default=0) < 1
        or (seeds is not None and seeds < 1)
    ):
        raise UserError(
            "gaussians: correlations lie between -1 and 1, sizes and seeds are at least 1; give at least one of each"
        )
    chosen = tuple(estimators or plan.estimators)
    grid: list[Setting] = [
        {"part": "grid", "size": size, "rho": r, "estimator": name, "seed": seed}
        for size in sizes
        for r in correlations
        for name in chosen
        for seed in range(seeds or plan.seeds)
    ]
    consistency: list[Setting] = [
        {"part": "samples", "size": size, "rho": consistency_rho, "estimator": name, "samples": n, "seed": seed}
        for size in sizes
        for n in plan.samples
        for name in chosen
        if name in ("dv", "jsd", "nwj", "kraskov")
        for seed in range(min(seeds or plan.seeds, plan.sample_seeds))
    ]
    stem = "gaussians" if protocol == "quick" else f"gaussians-{protocol}"
    cells = Cells(Path(output) / f"{stem}.json", dataclasses.asdict(plan.training), {"experiment": "gaussians"})

    def run(setting: Setting, progress: Report) -> dict[str, Any]:
        pair = Correlated(setting["rho"], setting["size"])
        if setting["part"] == "samples":
            return _from_sample(pair, setting, plan.training, place, progress)
        return measure.estimate(pair, setting["estimator"], plan.training, setting["seed"], place, progress)

    with bars() as progress:
        rows = cells.run(grid, run, progress, "gaussians")
        samples = cells.run(consistency, run, progress, "consistency")
    _print(_summary(rows), protocol)
    table = cells.write_csv([*rows, *samples])
    pictures = [
        plots.save(_curves(rows, sizes), cells.path.with_name(f"{stem}-rho.png")),
        plots.save(_bias(rows, sizes), cells.path.with_name(f"{stem}-bias.png")),
    ]
    if samples:
        pictures.append(plots.save(_consistency(samples, sizes), cells.path.with_name(f"{stem}-samples.png")))
    print("results:", *(str(path) for path in (cells.path, table, *pictures)), sep="\n  ")


def _from_sample(
    pair: Correlated, setting: Setting, training: Training, device: torch.device, progress: Report
) -> dict[str, Any]:
    """An estimate from a sample of limited size, of which nothing but the sample is known."""
    x, z = pair(setting["samples"], torch.Generator().manual_seed(1000 + setting["seed"]))
    if setting["estimator"] == "kraskov":
        return measure.result(pair, kraskov(x, z, training.neighbours))
    mine = MINE(
        bound=setting["estimator"],
        widths=training.widths,
        negatives=training.negatives,
        batch_size=min(training.batch_size, max(32, len(x) // 20)),
        learning_rate=training.learning_rate,
        steps=training.steps,
        seed=setting["seed"],
        device=device,
        progress=progress,
    )
    with warnings.catch_warnings():
        # The plot shows how far small samples go.
        warnings.filterwarnings("ignore", message="mine:")
        try:
            mine.fit(x, z)
        except DivergenceError:
            return {"truth": pair.information, "status": measure.DIVERGED}
    return measure.result(pair, mine.estimate_, mine.standard_error_)


def _summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return measure.summary(rows, "size", "rho", "estimator")


def _print(found: Sequence[dict[str, Any]], protocol: str) -> None:
    names = list(dict.fromkeys(entry["estimator"] for entry in found))
    ceiling = math.log(PROTOCOLS[protocol].training.test_pairs)
    table = Table(
        title=f"I(X; Z) in nats, {protocol}: mean and deviation over seeds (* within 5 % or 0.1 nat in all; "
        f"^ above log n = {ceiling:.1f}, more than n held-out pairs certify)"
    )
    for column in ("d", "rho", "truth", *(NAMES.get(name, name) for name in names)):
        table.add_column(column, justify="right")
    lines = dict.fromkeys((entry["size"], entry["rho"], entry["truth"]) for entry in found)
    for size, rho, truth in lines:
        texts = [_text(e, ceiling) for e in found if (e["size"], e["rho"]) == (size, rho)]
        table.add_row(str(size), f"{rho:g}", f"{truth:.3f}", *texts)
    Console().print(table)


def _text(entry: dict[str, Any], ceiling: float) -> str:
    if math.isnan(entry["mean"]):
        return measure.DIVERGED
    spread = f" ({entry['std']:.3f})" if entry["seeds"] > 1 else ""
    mark = "^" if entry["mean"] > ceiling else "*" if entry["right"] == entry["seeds"] else " "
    lost = f", {entry['diverged']} {measure.DIVERGED}" if entry["diverged"] else ""
    return f"{entry['mean']:.3f}{spread}{mark}{lost}"


def _by_estimator(found: Sequence[dict[str, Any]], size: int, by: str) -> dict[str, list[dict[str, Any]]]:
    names = dict.fromkeys(entry["estimator"] for entry in found)
    entries = sorted((e for e in found if e["size"] == size and not math.isnan(e["mean"])), key=lambda e: e[by])
    return {name: [entry for entry in entries if entry["estimator"] == name] for name in names}


def _curves(rows: Sequence[dict[str, Any]], sizes: Sequence[int]) -> Any:
    """Estimate against correlation, with a band of one deviation over seeds."""
    found = _summary(rows)
    figure, grid = plots.figure(1, len(sizes))
    for size, axes in zip(sizes, grid, strict=True):
        correlations = [entry["rho"] for entry in found if entry["size"] == size]
        fine = np.linspace(max(-0.99, min(correlations) - 0.05), min(0.99, max(correlations) + 0.05), 199).tolist()
        axes.plot(fine, [Correlated(r, size).information for r in fine], color="black", linewidth=1, label="truth")
        for name, entries in _by_estimator(found, size, "rho").items():
            _band(axes, [e["rho"] for e in entries], entries, NAMES.get(name, name))
        # Square roots keep the small values apart; an estimate far outside belongs to the table.
        axes.set_yscale("function", functions=(lambda v: np.sign(v) * np.abs(v) ** 0.5, lambda v: np.sign(v) * v**2))
        top = 1.2 * max(1.0, *(e["truth"] for e in found if e["size"] == size))
        axes.set_ylim(-0.01 * top, top)
        axes.set(title=f"d = {size}", xlabel="rho", ylabel="I(X; Z) [nats]")
        axes.legend(fontsize="small")
    return figure


def _band(axes: Axes, places: list[float], entries: Sequence[dict[str, Any]], label: str) -> None:
    (line,) = axes.plot(places, [e["mean"] for e in entries], marker=".", label=label)
    low, high = ([e["mean"] + sign * e["std"] for e in entries] for sign in (-1, 1))
    axes.fill_between(places, low, high, color=line.get_color(), alpha=0.2)


def _bias(rows: Sequence[dict[str, Any]], sizes: Sequence[int]) -> Any:
    """Bias, and variance over seeds, against the truth; rho and -rho count as one correlation.

    Their estimates with one seed have the same draws, so that they say nothing about the variance.
    """
    found = _summary([{**row, "rho": abs(row["rho"])} for row in rows])
    signed = [entry for entry in _summary(rows) if entry["seeds"] > 1]
    spread = bool(signed)
    figure, grid = plots.figure(2 if spread else 1, len(sizes))
    for column, size in enumerate(sizes):
        bias, variance = grid[column], grid[len(sizes) + column] if spread else None
        for name, entries in _by_estimator(found, size, "truth").items():
            truths = [e["truth"] for e in entries]
            bias.plot(truths, [e["mean"] - e["truth"] for e in entries], marker=".", label=NAMES.get(name, name))
            if variance is not None:
                variances = {
                    truth: [e["std"] ** 2 for e in _by_estimator(signed, size, "truth")[name] if e["truth"] == truth]
                    for truth in truths
                }
                variance.plot(truths, [statistics.fmean(values) for values in variances.values()], marker=".")
        truths = sorted({e["truth"] for e in found if e["size"] == size})
        limits = [measure.tolerance(truth) for truth in truths]
        bias.fill_between(truths, [-t for t in limits], limits, color="grey", alpha=0.2, label="5 % or 0.1 nat")
        bias.set_yscale("symlog", linthresh=0.1)
        bias.set(title=f"d = {size}", ylabel="bias [nats]", xlabel="truth [nats]")
        bias.set_xscale("symlog", linthresh=0.1)
        bias.legend(fontsize="small")
        if variance is not None:
            variance.set(xlabel="truth [nats]", ylabel="variance [nats^2]", yscale="log")
            variance.set_xscale("symlog", linthresh=0.1)
            variance.set_xlim(bias.get_xlim())
    return figure


def _consistency(rows: Sequence[dict[str, Any]], sizes: Sequence[int]) -> Any:
    """Estimate against the number of pairs."""
    figure, grid = plots.figure(1, len(sizes))
    for size, axes in zip(sizes, grid, strict=True):
        mine = [row for row in rows if row["size"] == size]
        counts = sorted({row["samples"] for row in mine})
        for name in dict.fromkeys(row["estimator"] for row in mine):
            entries = [
                _summary([row for row in mine if (row["samples"], row["estimator"]) == (n, name)])[0] for n in counts
            ]
            _band(axes, counts, entries, NAMES.get(name, name))
        axes.axhline(mine[0]["truth"], color="black", linewidth=1, label="truth")
        axes.set_xlim(counts[0] / 1.2, counts[-1] * 1.2)
        axes.set(title=f"d = {size}, rho = {mine[0]['rho']:g}", xlabel="pairs", ylabel="I(X; Z) [nats]", xscale="log")
        axes.set_xticks(counts, minor=False)
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.tick_params(axis="x", which="minor", labelbottom=False)
        axes.legend(fontsize="small")
    return figure

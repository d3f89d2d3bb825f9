"""`dim mine bottleneck`: classifiers whose codes keep little of the image (MINE, section 5.3)."""

import dataclasses
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from matplotlib.axes import Axes
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dim import plots
from dim.data import digits, mnist
from dim.data.dataset import Dataset, Split, split_validation
from dim.data.sources import ROOT
from dim.devices import choose_device
from dim.errors import UserError
from dim.mine.compression import Settings, Variant, train
from dim.mine.results import FOLDER, Cells
from dim.progress import Report, bars

VARIANTS: tuple[Variant, ...] = get_args(Variant)
TITLES = {
    "deterministic": "no bottleneck",
    "vib": "VIB",
    "gaussian": "MINE, Gaussian",
    "additive": "MINE, additive",
    "propagated": "MINE, propagated",
}
EPOCHS = {"mnist": 3, "digits": 60}
"""Passes by default: minutes on two cores."""
VALIDATION = 1 / 6
"""Share of the training images that is held out: 10,000 of MNIST's. The paths on the information plane are theirs."""
EDGES = (-0.5, 1.15)
"""Of the information plane's axis of I(X; Z): nats, and times log n."""


def bottleneck(
    root: str | None = None,
    download: bool = False,
    seeds: int = 2,
    epochs: int | None = None,
    learning_rate: float = Settings.learning_rate,
    beta: float = Settings.beta,
    output: str = FOLDER,
    device: str = "auto",
) -> dict[str, Any]:
    """Trains classifiers with cross-entropy + beta I(X; Z), Z by five encoders, and tests them.

    Without --root the images are scikit-learn's 1,797 digits; with it, MNIST, whose published errors, as recalled,
    stand beside ours. The defaults are a short training, minutes on two cores; VIB's, which MINE compares with, is
    --epochs 200 --learning_rate 1e-4. The short training's rate was chosen on MNIST's validation images: after 2
    epochs without a bottleneck (seed 100), 1e-3 left 2.9 % errors and 3e-4 4.8 %. Weights are tested after the last
    epoch, so that none is chosen. Run again, only what is missing is trained.

    Args:
        root: folder with MNIST's files, as torchvision keeps them.
        download: fetch MNIST if it is not in root (by default data).
        seeds: number of seeds, from 0.
        epochs: passes over the training images; by default 3 on MNIST, 60 on the digits.
        learning_rate: of the classifier at the start; it falls to a twentieth.
        beta: weight of the mutual information.
        output: folder of bottleneck-DATA.json, .csv and .png.
        device: cpu, cuda, cuda:1 ...; auto takes a GPU if there is one.

    Returns:
        The content of the results file.
    """
    if seeds < 1 or (epochs is not None and epochs < 1) or not (learning_rate > 0 and beta >= 0):
        raise UserError("bottleneck: seeds and epochs must be at least 1, learning_rate positive, beta not negative")
    data = digits.load(8) if root is None and not download else mnist.load(root or ROOT, download)
    settings = Settings(epochs or EPOCHS[data.name], beta, learning_rate=learning_rate)
    identity = {
        "experiment": "bottleneck",
        "data": {"name": data.name, "fingerprint": data.fingerprint},
        "validation": VALIDATION,
        "settings": dataclasses.asdict(settings),
    }
    cells = Cells(Path(output) / f"bottleneck-{data.name}.json", identity, {"about": ABOUT})
    plan = [{"variant": variant, "seed": seed} for seed in range(seeds) for variant in VARIANTS]
    images = _Images(data, choose_device(device))
    with bars() as progress:
        rows = cells.run(plan, lambda setting, report: images.measure(setting, settings, report), progress, data.name)
    errors = published() if data.name == "mnist" else {}
    _print_table(rows, errors, f"{data.name}: {settings.epochs} epochs, beta {beta:g}, seeds 0 to {seeds - 1}")
    csv = cells.write_csv([{**row, "published_as_recalled": errors.get(row["variant"])} for row in rows])
    picture = _plot(cells.path, rows, errors, images)
    print(f"results: {cells.path}, {csv}, {picture}")
    return cells.content


ABOUT = {
    "test_error": "percent, weights averaged over the training, after the last epoch",
    "validation_error": "the same on held-out training images",
    "x_z": "held-out DV estimate of I(X; Z), nats, of the last weights; no more than log n is certified",
    "z_y": "lower bound of I(Z; Y): H(Y) less the held-out cross-entropy, nats",
    "kl": "VIB's upper bound of I(X; Z), nats",
}


def published() -> dict[str, float]:
    """Test errors of the paper in percent by variant (`published.json` says where from)."""
    content = json.loads(resources.files("dim.mine").joinpath("published.json").read_text("utf-8"))
    return content["bottleneck"]["test_error"]


class _Images:
    """Flat images in [-1, 1] and classes: what is trained on, held out and tested."""

    def __init__(self, data: Dataset, device: torch.device) -> None:
        train, held_out = split_validation(data.train, round(VALIDATION * len(data.train.labels)))
        # The digits come in runs of 0 to 9, whereas an estimate needs pairs in random order.
        held_out = held_out.rows(torch.randperm(len(held_out.labels), generator=torch.Generator().manual_seed(0)))
        self.train, self.held_out, self.test = (self._flat(split.to(device)) for split in (train, held_out, data.test))
        self.classes = len(data.classes)

    @staticmethod
    def _flat(split: Split) -> tuple[Tensor, Tensor]:
        return split.images[:, 0].flatten(1).float() / 127.5 - 1, split.labels

    def measure(self, setting: Mapping[str, Any], settings: Settings, report: Report) -> dict[str, Any]:
        """Trains one variant with one seed: its errors and its path on the information plane."""
        title, history = f"{TITLES[setting['variant']]}, seed {setting['seed']}", []
        with torch.random.fork_rng(devices=[]):
            passes = train(setting["variant"], *self.train, self.classes, settings, setting["seed"])
            for epoch, learner in passes:
                report(title, epoch / settings.epochs)
                if _due(epoch, settings.epochs):
                    history.append({"epoch": epoch, **learner.plane(*self.held_out)})
            errors = {"test_error": learner.error(*self.test), "validation_error": learner.error(*self.held_out)}
        final = {name: value for name, value in history[-1].items() if name != "epoch"}
        if not all(math.isfinite(value) for value in final.values()):
            raise UserError(f"bottleneck: {title} diverged; try a smaller --learning_rate")
        return {**errors, **final, "history": history}


def _due(epoch: float, epochs: int) -> bool:
    """Whether the path has a point here: close to each other where it moves fast, some twenty in all."""
    whole = epoch.is_integer() and (epoch < 5 or epoch % math.ceil(epochs / 12) == 0)
    return epoch < 1 or whole or epoch == epochs


def _values(rows: Sequence[Mapping[str, Any]], variant: str, measure: str) -> list[float]:
    return [row[measure] for row in rows if row["variant"] == variant and measure in row]


def _text(values: Sequence[float]) -> str:
    """Mean and, over several seeds, standard deviation."""
    if not values:
        return ""
    return f"{statistics.fmean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def _print_table(rows: Sequence[Mapping[str, Any]], errors: Mapping[str, float], title: str) -> None:
    table = Table(title=title, title_justify="left")
    for name in ("", "error %", "published (recalled)", "I(X;Z)", "its KL bound", "I(Z;Y)"):
        table.add_column(name, justify="right" if name else "left")
    for variant in VARIANTS:
        found = [_text(_values(rows, variant, measure)) for measure in ("test_error", "x_z", "kl", "z_y")]
        known = f"{errors[variant]:.2f}" if variant in errors else ""
        table.add_row(TITLES[variant], found[0], known, *found[1:])
    Console().print(table)


def _plane(axes: Axes, rows: Sequence[Mapping[str, Any]], images: _Images) -> None:
    """Paths of the seeds' means; a dot after the training.

    An estimate that no information can have, below 0 or well above log n, would stretch the axis until all others are
    one line: it stands as a triangle at the edge, and its value in the legend.
    """
    low, high = EDGES[0], EDGES[1] * math.log(len(images.held_out[1]))
    for variant in VARIANTS:
        histories = [row["history"] for row in rows if row["variant"] == variant]
        x, y = np.array([[[at["x_z"], at["z_y"]] for at in history] for history in histories]).mean(0).T
        outside = (x < low) | (x > high)
        label = TITLES[variant] + "".join(f", outside at {value:.3g}" for value in x[outside])
        inside = x.clip(low, high)
        (line,) = axes.plot(inside, y, marker=".", markersize=4, linewidth=1, label=label)
        axes.plot(inside[-1], y[-1], marker="o", markersize=8, color=line.get_color())
        for at, height in zip(inside[outside], y[outside], strict=True):
            axes.plot(at, height, marker="<" if at == low else ">", markersize=11, color=line.get_color())
    margin = 0.03 * (high - low)
    axes.set_xlim(low - margin, high + margin)
    held_out = len(images.held_out[1])
    axes.axhline(math.log(images.classes), color="grey", linewidth=0.8, linestyle=":")
    axes.axvline(math.log(held_out), color="grey", linewidth=0.8, linestyle="--")
    axes.annotate(f"log {held_out}", (math.log(held_out), 1.3), rotation=90, ha="right", color="grey", fontsize=8)
    axes.annotate(f"log {images.classes}", (0, math.log(images.classes)), va="bottom", color="grey", fontsize=8)
    axes.set(xlabel="I(X; Z), held-out DV estimate, nats", ylabel="I(Z; Y), lower bound, nats")
    axes.set_ylim(-0.1, math.log(images.classes) + 0.15)
    axes.set_title("information plane along the training")
    axes.legend(fontsize=8, loc="lower right")


def _plot(path: Path, rows: Sequence[Mapping[str, Any]], errors: Mapping[str, float], images: _Images) -> Path:
    figure, (plane, bars_) = plots.figure(1, 2, 5.6, 4.2)
    _plane(plane, rows, images)
    for place, variant in enumerate(VARIANTS):
        found = _values(rows, variant, "test_error")
        bars_.barh(place, statistics.fmean(found), color=f"C{place}", alpha=0.6)
        bars_.plot(found, [place] * len(found), "k.", label="seeds" if place == 0 else None)
        if variant in errors:
            label = "published (recalled)" if place == 0 else None
            bars_.plot(errors[variant], place, "kD", markerfacecolor="white", label=label)
    bars_.set_yticks(range(len(VARIANTS)), [TITLES[variant] for variant in VARIANTS])
    bars_.invert_yaxis()
    bars_.set(xlabel="test error, %", title="after the last epoch")
    bars_.legend(fontsize=8)
    return plots.save(figure, path)

"""Bias, variance and cost of every bound on Gaussians of known information (Poole et al. 2019, figure 2).

    python benchmarks/bounds.py [--json FILE] [--steps 2000] [--seeds 1] [--critic separable] [--threads N]
    python benchmarks/bounds.py --steps 200 --information 2 6 --batches 50      # a quick look

Pairs are 20 correlated components, z as it is or cubed, which leaves the information as it is. Each bound trains a
critic of its own on fresh batches in which every z is scored with all x; then the critic stands still and the bound
is taken on fresh batches of the same size. Bias is their mean less the truth, variance that over batches. Unlike the
paper's, whose information grows during one training, each level has its own training, and its own critic at the end.
A step's cost is the quickest of several (forward, backward, Adam), relative to dv's in the same run.
"""

import argparse
import json
import math
import statistics
import time
import warnings
from pathlib import Path
from typing import Any, get_args

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dim import cpu, plots
from dim.files import write_json
from dim.mine import MINE
from dim.mine.estimator import DivergenceError
from dim.mine.networks import CriticName
from dim.mine.samplers import Correlated
from dim.mine.training import Trainer
from dim.objectives import OBJECTIVES
from dim.provenance import versions

BOUNDS = ("dv", "nwj", "tuba", "infonce", "interpolated", "js", "smile")
SIZE = 20
FAR = 100.0
"""Nats off the truth that a plot still shows."""


def measure(bound: str, pair: Correlated, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Bias and variance (nats, nats^2) over fresh batches, and seconds of a step; None where training diverged."""
    mine = MINE(
        bound=bound,
        critic=options.critic,
        widths=(options.width,),
        negatives=options.batch - 1,
        batch_size=options.batch,
        steps=options.steps,
        learning_rate=options.learning_rate,
        evaluations=1,
        patience=None,
        seed=seed,
    )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="mine:")
            mine.fit_sampler(pair, 10 * options.batch)
    except DivergenceError:
        return {"bias": None, "variance": None, "seconds": None}
    generator = torch.Generator().manual_seed(10_000 + seed)
    values = [mine.score(*pair(options.batch, generator)) for _ in range(options.batches)]
    finite = all(math.isfinite(value) for value in values)
    return {
        "bias": statistics.fmean(values) - pair.information if finite else None,
        "variance": statistics.variance(values) if finite else None,
        "seconds": step_seconds(mine, pair, options),
    }


def step_seconds(mine: MINE, pair: Correlated, options: argparse.Namespace) -> float:
    """Seconds of the quickest of several steps."""
    trainer = Trainer(mine.critic_, OBJECTIVES[mine.bound], 1e-6, options.repeat, options.batch - 1)
    batch = pair(options.batch, torch.Generator().manual_seed(0))
    times = []
    for _ in range(options.repeat):
        start = time.perf_counter()
        trainer.step(*batch)
        times.append(time.perf_counter() - start)
    return min(times)


def summary(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds for each bound, pair and information, with the cost relative to dv's on the same pairs."""
    found = []
    for key in dict.fromkeys((r["bound"], r["pairs"], r["information"]) for r in results):
        group = [r for r in results if (r["bound"], r["pairs"], r["information"]) == key and r["bias"] is not None]
        entry = dict(zip(("bound", "pairs", "information"), key, strict=True))
        for name in ("bias", "variance"):
            entry[name] = statistics.fmean(r[name] for r in group) if group else None
        entry["seconds"] = min((r["seconds"] for r in group), default=None)
        found.append(entry)
    reference = min((e["seconds"] for e in found if e["bound"] == "dv" and e["seconds"]), default=None)
    for bound in dict.fromkeys(e["bound"] for e in found):
        quickest = min((e["seconds"] for e in found if e["bound"] == bound and e["seconds"]), default=None)
        for entry in found:
            if entry["bound"] == bound:
                entry["relative_cost"] = quickest / reference if quickest and reference else None
    return found


def shortly(bias: float) -> str:
    return f"{bias:+.2f}" if abs(bias) < 1000 else f"{bias:+.0e}"


def show(found: list[dict[str, Any]], title: str) -> None:
    """A table with a line for each bound and kind of pairs."""
    levels = list(dict.fromkeys(entry["information"] for entry in found))
    table = Table(title=title)
    for column in ("pairs", "bound", *(f"I = {level:g}" for level in levels), "cost"):
        table.add_column(column, justify="right")
    for pairs, bound in dict.fromkeys((e["pairs"], e["bound"]) for e in found):
        line = {e["information"]: e for e in found if (e["pairs"], e["bound"]) == (pairs, bound)}
        texts = [
            "diverged" if e["bias"] is None else f"{shortly(e['bias'])} ({e['variance']:.1g})"
            for e in (line[level] for level in levels)
        ]
        cost = line[levels[0]]["relative_cost"]
        table.add_row(pairs, bound, *texts, f"{cost:.2f}" if cost else "-")
    Console(width=120).print(table)


def draw(found: list[dict[str, Any]], path: Path) -> Path:
    """Bias and variance against the truth, a column for each kind of pairs; what is too far off leaves the axes."""
    kinds = list(dict.fromkeys(entry["pairs"] for entry in found))
    figure, grid = plots.figure(2, len(kinds))
    for column, kind in enumerate(kinds):
        for bound in dict.fromkeys(entry["bound"] for entry in found):
            line = [e for e in found if (e["pairs"], e["bound"]) == (kind, bound) and e["bias"] is not None]
            levels, biases, variances = ([e[key] for e in line] for key in ("information", "bias", "variance"))
            far = any(abs(bias) > FAR for bias in biases)
            grid[column].plot(levels, biases, marker=".", label=f"{bound} (off the axis)" if far else bound)
            grid[len(kinds) + column].plot(levels, variances, marker=".", label=bound)
        grid[column].axhline(0, color="black", linewidth=0.8)
        grid[column].set_yscale("symlog", linthresh=1)
        grid[len(kinds) + column].set(xlabel="I(X; Z) [nats]", ylabel="variance [nats^2]", yscale="log")
        for axes, far in ((grid[column], FAR), (grid[len(kinds) + column], FAR**2)):
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, -far), min(high, far))
        grid[column].set(title=f"{kind}, d = {SIZE}", ylabel="bias [nats]")
        grid[column].legend(fontsize="x-small")
    return plots.save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--information", type=float, nargs="+", default=[2, 4, 6, 8, 10], help="nats")
    parser.add_argument("--pairs", nargs="+", default=["plain", "cubed"], choices=["plain", "cubed"])
    parser.add_argument("--bounds", nargs="+", default=list(BOUNDS), choices=BOUNDS)
    parser.add_argument("--critic", default="separable", choices=get_args(CriticName))
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--batches", type=int, default=200, help="fresh batches for bias and variance")
    parser.add_argument("--repeat", type=int, default=20, help="steps of which the quickest is the cost")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", help="also write the numbers here, and a plot beside them")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cpu.tune()
    plan = [
        {"bound": bound, "pairs": pairs, "information": information, "seed": seed}
        for pairs in options.pairs
        for information in options.information
        for bound in options.bounds
        for seed in range(options.seeds)
    ]
    results = []
    for cell in track(plan, "measuring"):
        pair = Correlated.of_information(cell["information"], SIZE, cell["pairs"] == "cubed")
        results.append({**cell, **measure(cell["bound"], pair, cell["seed"], options)})
    found = summary(results)
    show(found, f"bias (variance) in nats, {options.critic} critic, batches of {options.batch}, {options.steps} steps")
    if options.json:
        content = {"options": vars(options), "versions": versions(), "summary": found, "results": results}
        write_json(options.json, json.loads(json.dumps(content)))
        print(f"results: {options.json} and {draw(found, Path(options.json))}")


if __name__ == "__main__":
    main()

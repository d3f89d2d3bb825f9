"""How a step grows: time and memory against batch, critic width, negatives, image size and processes.

    python benchmarks/scaling.py [--figure docs/figures/speed-scaling.png] [--json FILE]

Each point is the quickest whole step of DIM(L) in a fresh process, and its peak memory (ru_maxrss) above what it had
before the first step. The fitted exponent (least squares on logarithms) stands beside the exponent of the arithmetic,
fitted in the same way to the floating-point operations that PyTorch counts in the same steps:

* batch N: infoNCE, dot critic, U = 256; linear in N, but for the N^2 L scores;
* width U: infoNCE, dot critic, N = 64; from the encoder's constant to the critic's U^2;
* negatives K: JSD, concatenation critic of 128 units, N = 64; from a constant to K;
* image side: N = 64, U = 256; the 64x64 encoder has one layer more;
* processes: 64 images in all on 1 and on 2 gloo processes of one thread each, negatives and batch statistics from both;
  a second table has two processes that share nothing, gradients, also batch statistics, and all of it, quickest and
  median of 15 steps.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from measuring import in_fresh_process, parse_or_run, peak_gib, save, seconds
from rich.console import Console
from rich.progress import track
from rich.table import Table
from stepping import counted_flops, local_dim, random_batch, stepper
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dim import cpu, plots
from dim.data.loader import Batch
from dim.models import DeepInfoMax
from dim.networks.batchnorm import use_union_statistics

PLAN: dict[str, list[dict[str, Any]]] = {
    "batch N": [{"n": n} for n in (32, 64, 128, 256, 512, 1024)],
    "width U": [{"units": units} for units in (64, 128, 256, 512, 1024, 2048)],
    "negatives K": [{"negatives": k} for k in (1, 4, 16, 63)],
    "image side": [{"side": side} for side in (32, 64)],
    "processes": [{"processes": processes} for processes in (1, 2)],
}

SHARES = ("nothing", "gradients", "statistics", "all")
"""What two processes share, each with what stands before it; all is with negatives."""


def build(units: int, negatives: int | None, side: int) -> DeepInfoMax:
    if negatives:
        options: dict[str, Any] = {"local_critic": "concat", "width": 128, "negatives": negatives}
        return DeepInfoMax(local_objective="jsd", **options)
    return local_dim(units, encoder=f"conv{side}")


def run(
    n: int = 64, units: int = 256, negatives: int | None = None, side: int = 32, processes: int = 0, share: str = "all"
) -> dict[str, float]:
    cpu.tune()
    if processes:
        with tempfile.TemporaryDirectory() as folder:
            multiprocessing.spawn(_process, (processes, n, units, folder, share), processes)
            return json.loads((Path(folder) / "result").read_text())
    model, batch = build(units, negatives, side), random_batch(n, side)
    before = peak_gib()
    step = stepper(model, batch)
    step()
    found = {"seconds": min(seconds(step) for _ in range(3)), "gib": peak_gib() - before}
    return {**found, "gflop": counted_flops(model, batch) / 1e9}


class Loss(nn.Module):
    """A model's loss as a forward pass, which is what DistributedDataParallel wraps."""

    def __init__(self, model: DeepInfoMax) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        return torch.stack(list(self.model.losses(batch).losses.values())).sum()


def _process(rank: int, processes: int, n: int, units: int, folder: str, share: str) -> None:
    """One of several processes, trained as Lightning does it, by DistributedDataParallel."""
    cpu.tune()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=processes)
    model, batch = local_dim(units, gather_negatives=share == "all"), random_batch(n // processes)
    before = peak_gib()
    if share in ("statistics", "all") and processes > 1:
        use_union_statistics(model, cuda=False)
    loss: nn.Module = Loss(model)
    if share != "nothing" and processes > 1:
        loss = DistributedDataParallel(loss)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.5, 0.999), fused=True)

    def step() -> None:
        optimiser.zero_grad()
        loss(batch).backward()
        optimiser.step()

    step()
    times = sorted(seconds(step) for _ in range(15))
    found = {"seconds": times[0], "median": times[len(times) // 2], "gib": peak_gib() - before}
    found["gflop"] = counted_flops(model, batch) / 1e9  # of its share of the images, encoded and scored against all
    if rank == 0:
        (Path(folder) / "result").write_text(json.dumps(found))
    dist.destroy_process_group()


def exponent(x: list[float], y: list[float]) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def fits(points: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Exponents through all points, and, since curves bend, between the last two."""
    x, keys = [point["value"] for point in points], ("seconds", "gflop", "gib")
    y = {key: [point[key] for point in points] for key in keys}
    return {key: {"all": exponent(x, y[key]), "last": exponent(x[-2:], y[key][-2:])} for key in keys}


def written(fitted: dict[str, float]) -> str:
    return f"{fitted['all']:.2f} ({fitted['last']:.2f})"


def draw(results: dict[str, list[dict[str, Any]]], path: Path) -> Path:
    figure, axes = plots.figure(2, len(results), width=2.9, height=2.7)
    for column, (name, points) in enumerate(results.items()):
        x, fitted = [point["value"] for point in points], fits(points)
        arithmetic = [point["gflop"] * points[-1]["seconds"] / points[-1]["gflop"] for point in points]
        time, memory = axes[column], axes[column + len(results)]
        time.loglog(x, [point["seconds"] for point in points], "o-", label=f"time: {written(fitted['seconds'])}")
        time.loglog(x, arithmetic, "--", color="grey", label=f"arithmetic: {written(fitted['gflop'])}")
        memory.loglog(
            x, [point["gib"] for point in points], "s-", color="C1", label=f"memory: {written(fitted['gib'])}"
        )
        memory.set_xlabel(name)
        for axis in (time, memory):
            axis.set_xticks(x, [str(value) for value in x], fontsize="small")
            axis.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
            axis.legend(title="exponent (of the last step)", fontsize="small", title_fontsize="small")
            axis.grid(alpha=0.3)
    axes[0].set_ylabel("seconds a step")
    axes[len(results)].set_ylabel("GiB above the start")
    return plots.save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(PLAN), choices=list(PLAN))
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--json", type=Path)
    options = parse_or_run(parser, run)
    results: dict[str, list[dict[str, Any]]] = {}
    tasks = [(name, task) for name in options.only for task in PLAN[name]]
    for name, task in track(tasks, "points"):
        (value,) = task.values()
        results.setdefault(name, []).append({"value": value, **in_fresh_process(__file__, **task)})
    table = Table(title=f"{os.environ.get('OMP_NUM_THREADS', 'all')} threads", title_justify="left")
    for name in ("", "", "seconds", "GFLOP", "GiB", "exponent: time", "arithmetic", "memory"):
        table.add_column(name, justify="right")
    for name, points in results.items():
        fitted = fits(points)
        for point in points:
            numbers = f"{point['seconds']:.4f}", f"{point['gflop']:.1f}", f"{point['gib']:.2f}"
            last = [written(fitted[key]) for key in ("seconds", "gflop", "gib")] if point is points[-1] else []
            table.add_row(name if point is points[0] else "", str(point["value"]), *numbers, *last)
    Console(width=100).print(table)
    shared: dict[str, dict[str, float]] = {}
    if "processes" in options.only:
        one, two = results["processes"]
        for share in track(SHARES[:-1], "shares"):
            shared[f"2, sharing {share}"] = in_fresh_process(__file__, processes=2, share=share)
        shared = {"1": one, **shared, "2, sharing all": two}
        table = Table(title="a step of 64 images, one thread a process", title_justify="left")
        for name in ("processes", "quickest, s", "median, s"):
            table.add_column(name, justify="right")
        for name, found in shared.items():
            table.add_row(name, f"{found['seconds']:.3f}", f"{found['median']:.3f}")
        Console(width=100).print(table)
    if options.figure:
        print(draw(results, options.figure))
    save(
        options.json,
        options,
        results=results,
        shared=shared,
        exponents={name: fits(points) for name, points in results.items()},
    )


if __name__ == "__main__":
    main()

"""infoNCE here against the expanded one that people know: whole steps, time and peak memory.

    python benchmarks/expanded.py [--units 256 2048] [--batch 64 256] [--precision bf16] [--json FILE]

The expanded formulation repeats each image's negatives for all of its L = 64 positives, so that a log-softmax runs over
N x L x (1 + (N-1) L) numbers. It is measured twice: as the authors' code lays it out, with a last dimension for the
number of global vectors (of size 1) behind the classes, for which PyTorch has a slower softmax, and "flat", written as
sparingly as the idea allows, classes last. Neither has the authors' own-image classes, masked with -10: K is ours.
Everything else is the same code: encoder, critic, one product for the scores, estimate, memory layout, settings of the
processor, Adam. Each side runs in fresh processes, in turn, so that its peak memory (ru_maxrss) is its own; the table
has the quickest step of all and the median peak, whole and without what the imports take. The losses of the first step
are compared. "At the ceiling" is how many times as fast as the other a step would be that took no time but for the
arithmetic of the formula that is printed, at the rate of the best of the 2048^3 float32 products timed between the
processes: what is left to gain in float32.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measuring import (
    FORMULA,
    Ceiling,
    in_fresh_process,
    local_dim_flops,
    parse_or_run,
    peak_gib,
    save,
    seconds,
)
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn

from dim import cpu
from dim.adversarial import match_prior
from dim.contrast import contrast
from dim.networks.critics import LocalDotCritic
from dim.networks.discriminators import CodeDiscriminator
from dim.networks.encoders import build_encoder
from dim.objectives import Objective, infonce, jsd

CODE_SIZE = 64


def expanded(positive: Tensor, negative: Tensor) -> Tensor:
    """infoNCE as a softmax over its classes, each positive with its own copy of the negatives: (N, L, K, 1)."""
    others = negative[:, None, :, None].expand(-1, positive.shape[1], -1, -1)
    logits = torch.cat([positive[:, :, None, None], others], 2)
    return logits.log_softmax(2)[:, :, 0].mean()


def flat(positive: Tensor, negative: Tensor) -> Tensor:
    """The same with the classes last in memory, (N, L, K), where a softmax is quickest."""
    others = negative[:, None].expand(-1, positive.shape[1], -1)
    logits = torch.cat([positive[:, :, None], others], 2)
    return logits.log_softmax(2)[:, :, 0].mean()


FORMULATIONS = {"ours": None, "expanded": expanded, "flat": flat}


class LocalDIM(nn.Module):
    """Table 1's DIM(L) as `dim.models.DeepInfoMax` trains it, of the same parts, without Lightning around it."""

    def __init__(self, units: int, objective: Objective) -> None:
        super().__init__()
        self.encoder = build_encoder("conv32", CODE_SIZE).to(memory_format=torch.channels_last)
        self.critic = LocalDotCritic(self.encoder.shapes(), CODE_SIZE, units)
        self.discriminator = CodeDiscriminator(CODE_SIZE)
        self.objective = objective

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        outputs = self.encoder(images)
        scores = contrast(self.critic, outputs["y"], outputs["local"])
        value = self.objective(*scores)
        self.objective.estimate(*scores, value=value.detach())
        losses, _ = match_prior(self.discriminator, jsd, "uniform", noise, outputs["y"], 0.5)
        return 0.1 * losses["prior"] + losses["discriminator"] - value


def stepper(units: int, n: int, formulation: str, precision: str) -> Callable[[], float]:
    """A whole step on a random batch: loss, backward pass, fused Adam."""
    torch.manual_seed(0)
    objective = infonce
    if definition := FORMULATIONS[formulation]:
        objective = Objective(definition)
        objective.estimator(infonce._estimate)
    model = LocalDIM(units, objective)
    images = torch.rand(n, 3, 32, 32).mul(2).sub(1).contiguous(memory_format=torch.channels_last)
    noise = torch.rand(n, CODE_SIZE)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.5, 0.999), fused=True)

    def step() -> float:
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model(images, noise)
        loss.backward()
        optimiser.step()
        return loss.item()

    return step


def run(units: int, n: int, formulation: str, repeat: int, precision: str) -> dict[str, float]:
    cpu.tune()
    torch.optim.Adam([torch.zeros(1)])  # the first optimiser imports more of PyTorch
    imports = peak_gib()
    step = stepper(units, n, formulation, precision)
    loss = step()
    quickest = min(seconds(step) for _ in range(repeat))
    return {"loss": loss, "seconds": quickest, "peak_gib": peak_gib(), "own_gib": peak_gib() - imports}


def compare(units: int, n: int, ceiling: float, found: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """A row for each other formulation: over processes the quickest step and median peaks, ours beside its."""
    flops = local_dim_flops(n, units)
    over = {"seconds": min, "peak_gib": statistics.median, "own_gib": statistics.median, "loss": statistics.median}
    summaries = {
        name: {key: take(result[key] for result in results) for key, take in over.items()}
        for name, results in found.items()
    }
    ours, rows = summaries.pop("ours"), []
    for name, its in summaries.items():
        row: dict[str, Any] = {"units": units, "batch": n, "against": name}
        row |= {"gflop": flops / 1e9, "ceiling_gflops": ceiling / 1e9}
        for key in over:
            row |= {f"ours_{key}": ours[key], f"its_{key}": its[key]}
        row["times_as_fast"] = its["seconds"] / ours["seconds"]
        row["times_as_fast_at_ceiling"] = its["seconds"] * ceiling / flops
        row["share_of_memory"] = ours["peak_gib"] / its["peak_gib"]
        row["share_of_own_memory"] = ours["own_gib"] / its["own_gib"]
        row["loss_difference"] = abs(its["loss"] - ours["loss"])
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, nargs="*", default=[256, 2048])
    parser.add_argument("--batch", type=int, nargs="*", default=[64, 256])
    parser.add_argument("--precision", default="32", choices=("32", "bf16"))
    parser.add_argument("--repeat", type=int, default=3, help="steps of a process")
    parser.add_argument("--rounds", type=int, default=2, help="processes for each side")
    parser.add_argument("--json", type=Path)
    options = parse_or_run(parser, run)
    rows: list[dict[str, Any]] = []
    print(FORMULA)
    rate = Ceiling()
    sizes = [(u, n) for u in options.units for n in options.batch]
    with Progress() as progress:
        bar = progress.add_task("processes", total=len(sizes) * options.rounds * len(FORMULATIONS))
        for units, n in sizes:
            found: dict[str, list[dict[str, float]]] = {name: [] for name in FORMULATIONS}
            ceilings = []
            for turn in range(options.rounds):
                for name in list(found) if turn % 2 else reversed(found):
                    ceilings.append(rate())
                    task = {"units": units, "n": n, "formulation": name, "repeat": options.repeat}
                    task["precision"] = options.precision
                    found[name].append(in_fresh_process(__file__, **task))
                    progress.advance(bar)
            rows += compare(units, n, max(ceilings), found)
    table = Table(title=f"{torch.get_num_threads()} threads, precision {options.precision}", title_justify="left")
    for name in (
        "U",
        "N",
        "against",
        "seconds",
        "its",
        "times as fast",
        "at the ceiling",
        "GiB",
        "its",
        "share",
        "own share",
        "losses differ by",
    ):
        table.add_column(name, justify="right")
    for row in rows:
        times = f"{row['ours_seconds']:.3f}", f"{row['its_seconds']:.3f}", f"{row['times_as_fast']:.2f}"
        times += (f"{row['times_as_fast_at_ceiling']:.2f}",)
        memory = f"{row['ours_peak_gib']:.2f}", f"{row['its_peak_gib']:.2f}", f"{row['share_of_memory']:.2f}"
        own = f"{row['share_of_own_memory']:.2f}"
        size = str(row["units"]), str(row["batch"]), row["against"]
        table.add_row(*size, *times, *memory, own, f"{row['loss_difference']:.1e}")
    Console(width=110).print(table)
    save(options.json, options, formula=FORMULA, rows=rows)


if __name__ == "__main__":
    main()

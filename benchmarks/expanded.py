"""infoNCE here against the expanded one that people know: whole steps, time and peak memory.

    python benchmarks/expanded.py [--units 256 2048] [--batch 64 256] [--json FILE]

The expanded formulation repeats each image's negatives for all of its L = 64 positives, so that a log-softmax runs over
N x L x (1 + (N-1) L) numbers. Everything else is the same code: encoder, critic, one product for the scores, memory
layout, allocator settings, Adam. Each side runs in a fresh process, in turn, so that its peak memory (ru_maxrss, with
the imports) is its own; the table has the medians. Both losses of the first step are compared.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch
from measuring import in_fresh_process, local_dim, parse_or_run, peak_gb, random_batch, save, seconds, stepper
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from dim.allocator import keep_memory
from dim.objectives import Objective


def expanded(positive: Tensor, negative: Tensor) -> Tensor:
    """infoNCE as a softmax over its classes for every positive, each with its own copy of the negatives."""
    others = negative[:, None].expand(-1, positive.shape[1], -1)
    logits = torch.cat([positive[:, :, None], others], 2)
    return logits.log_softmax(2)[:, :, 0].mean()


def run(units: int, n: int, formulation: str, repeat: int) -> dict[str, float]:
    keep_memory()
    model = local_dim(units)
    if formulation == "expanded":
        model.objectives["local"] = Objective(expanded)
    step = stepper(model, random_batch(n))
    loss = float(step())
    return {"loss": loss, "seconds": min(seconds(step) for _ in range(repeat)), "peak_gb": peak_gb()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, nargs="*", default=[256, 2048])
    parser.add_argument("--batch", type=int, nargs="*", default=[64, 256])
    parser.add_argument("--repeat", type=int, default=3, help="steps a process, of which the quickest counts")
    parser.add_argument("--rounds", type=int, default=2, help="processes for each side")
    parser.add_argument("--json", type=Path)
    options = parse_or_run(parser, run)
    rows: list[dict[str, Any]] = []
    for units, n in track([(u, n) for u in options.units for n in options.batch], "sizes"):
        found: dict[str, list[dict[str, float]]] = {"ours": [], "expanded": []}
        for _ in range(options.rounds):
            for name, results in found.items():
                results.append(in_fresh_process(__file__, units=units, n=n, formulation=name, repeat=options.repeat))
        row: dict[str, Any] = {"units": units, "batch": n}
        for name, results in found.items():
            for key in ("seconds", "peak_gb", "loss"):
                row[f"{name}_{key}"] = statistics.median(result[key] for result in results)
        row["times_as_fast"] = row["expanded_seconds"] / row["ours_seconds"]
        row["share_of_memory"] = row["ours_peak_gb"] / row["expanded_peak_gb"]
        row["loss_difference"] = abs(row["expanded_loss"] - row["ours_loss"])
        rows.append(row)
    table = Table(title=f"{torch.get_num_threads()} threads", title_justify="left")
    for name in ("U", "N", "seconds", "expanded", "times as fast", "GB", "expanded", "share", "losses differ by"):
        table.add_column(name, justify="right")
    for row in rows:
        times = f"{row['ours_seconds']:.3f}", f"{row['expanded_seconds']:.3f}", f"{row['times_as_fast']:.2f}"
        memory = f"{row['ours_peak_gb']:.2f}", f"{row['expanded_peak_gb']:.2f}", f"{row['share_of_memory']:.2f}"
        table.add_row(str(row["units"]), str(row["batch"]), *times, *memory, f"{row['loss_difference']:.1e}")
    Console(width=110).print(table)
    save(options.json, options, rows=rows)


if __name__ == "__main__":
    main()

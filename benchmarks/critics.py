"""Time and peak memory of one step of every critic with every objective.

    python benchmarks/critics.py [--batch 64] [--units 256] [--threads N] [--json FILE]

A step is forward and backward through critic and objective, from a code and maps of the 32x32 encoder's shapes.
Each pair runs in a process of its own, so that its peak memory (above what the imports take) is its own. The local
concatenation critic is measured with all pairs and with one drawn negative for each positive. Times are also given
relative to the local encode-and-dot critic with JSD in the same run.
"""

import argparse
import json
import multiprocessing
import resource
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dim.contrast import contrast
from dim.models.deep_infomax import LogBaseline
from dim.networks.critics import GlobalConcatCritic, GlobalDotCritic, LocalConcatCritic, LocalDotCritic
from dim.objectives import OBJECTIVES

SHAPES = {"local": (128, 8, 8), "conv": (256, 4, 4)}
CODE = 64
CRITICS = {
    "global dot": (GlobalDotCritic, "units", None),
    "global concat": (GlobalConcatCritic, "width", None),
    "local dot": (LocalDotCritic, "units", None),
    "local concat, K = 1": (LocalConcatCritic, "width", 1),
    "local concat, all pairs": (LocalConcatCritic, "width", None),
}


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(critic_name: str, objective_name: str, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of the quickest step and peak memory in MiB above the imports."""
    torch.set_num_threads(options.threads)
    before = peak_mib()
    cls, size, negatives = CRITICS[critic_name]
    critic = cls(SHAPES, CODE, getattr(options, size))
    objective = OBJECTIVES[objective_name]
    baseline = LogBaseline(CODE)
    maps = torch.randn(options.batch, *SHAPES[critic.source], requires_grad=True)
    y = torch.randn(options.batch, CODE, requires_grad=True)
    times = []
    for _ in range(1 if "all pairs" in critic_name else options.repeat):
        start = time.perf_counter()
        scores = contrast(critic, y, maps, negatives)
        rows = baseline(y).repeat_interleave(len(scores.positive) // len(y), 0) if objective.takes_baseline else None
        if negatives == 1 and objective_name == "interpolated":
            return {"seconds": float("nan"), "memory_mib": float("nan")}  # needs two negatives
        objective(*scores, rows).backward()
        times.append(time.perf_counter() - start)
    return {"seconds": min(times), "memory_mib": peak_mib() - before}


def _in_process(queue: multiprocessing.Queue, *arguments: object) -> None:
    queue.put(measure(*arguments))  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--units", type=int, default=256, help="of the encode-and-dot critics")
    parser.add_argument("--width", type=int, default=512, help="of the concatenation critics")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--critics", nargs="*", default=list(CRITICS), choices=list(CRITICS))
    parser.add_argument("--json", help="also write the numbers here")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    results = []
    for critic, objective in track([(c, o) for c in options.critics for o in OBJECTIVES], "measuring"):
        queue = context.Queue()
        process = context.Process(target=_in_process, args=(queue, critic, objective, options))
        process.start()
        results.append({"critic": critic, "objective": objective, **queue.get()})
        process.join()
    reference = next((r["seconds"] for r in results if (r["critic"], r["objective"]) == ("local dot", "jsd")), None)
    table = Table(title=f"N = {options.batch}, U = {options.units}, {options.threads} threads")
    for column in ("critic", "objective", "seconds", "relative", "peak MiB"):
        table.add_column(column)
    for row in results:
        relative = f"{row['seconds'] / reference:.2f}" if reference else "-"
        table.add_row(row["critic"], row["objective"], f"{row['seconds']:.4f}", relative, f"{row['memory_mib']:.0f}")
    Console().print(table)
    if options.json:
        Path(options.json).write_text(json.dumps({"options": vars(options), "results": results}, indent=2))


if __name__ == "__main__":
    main()

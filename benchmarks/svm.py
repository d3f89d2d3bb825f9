"""The SVM of `dim.evaluation` against scikit-learn's LinearSVC (liblinear), in one run.

    python benchmarks/svm.py [--data FOLDER | --features FILE.safetensors] [--json FILE]

For every size in --sizes both solve the same problem (squared hinge, one-vs-rest, standardised float32 features,
one C), each in a process of its own, so that CPU time and peak memory are its own. For --large liblinear is not run:
its time is extrapolated from the sizes by a power law, its memory by a straight line, and both are marked so.

Features are CIFAR-10's training images through one layer of random 6x6 filters, ReLU and 4x4 average pooling (16
features a filter), or the tensors `features` (N, D) float32 and `labels` (N,) int64 of a safetensors file, of which
the first columns are taken.
"""

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sklearn.svm import LinearSVC
from torch import Tensor
from torch.nn import functional

from dim.data.sources import Split, load_dataset
from dim.errors import UserError
from dim.evaluation.features import Standardiser, check_features
from dim.evaluation.svm import Machines
from dim.files import write_json


def solve(solver: str, problem: Path, output: Path, cost: float, threads: int) -> None:
    """Runs in a process of its own: solves the problem and writes weights and costs."""
    torch.set_num_threads(threads)
    tensors = load_file(problem)
    machines = Machines(tensors["features"], tensors["labels"], "squared_hinge")
    # What importing and reading took at its worst shall not count: Linux starts the peak anew.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = peak_memory()
    wall, processor = time.perf_counter(), time.process_time()
    if solver == "ours":
        weights = machines.fit(cost, machines.zero_weights()).weights
    else:
        machine = LinearSVC(C=cost, dual=False, random_state=0)
        machine.fit(tensors["features"].numpy(), tensors["labels"].numpy())
        weights = torch.cat([torch.tensor(machine.coef_), torch.tensor(machine.intercept_)[:, None]], dim=1)
    costs = [time.process_time() - processor, time.perf_counter() - wall]
    costs += [peak_memory(), peak_memory() - before]
    save_file({"weights": weights, "costs": torch.tensor(costs, dtype=torch.float64)}, output)


def peak_memory() -> float:
    """The largest resident memory of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage's, which on Linux starts from the parent's.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def objective(features: Tensor, labels: Tensor, weights: Tensor, cost: float) -> float:
    """Sum over classes of 1/2 |w|^2 + C sum max(0, 1 - y f)^2, in float64."""
    total = 0.5 * weights.square().sum()
    for rows, targets in zip(features.split(4096), labels.split(4096), strict=True):
        values = rows.double() @ weights[:, :-1].T + weights[:, -1]
        signs = 2 * functional.one_hot(targets, len(weights)).double() - 1
        total += cost * (1 - signs * values).clamp(min=0).square().sum()
    return total.item()


def random_features(images: Tensor, size: int) -> Tensor:
    """(N, size) features of uint8 images by random filters: a stand-in for an untrained convolution."""
    generator = torch.Generator().manual_seed(0)
    filters = torch.randn(size // 16, images.shape[1], 6, 6, generator=generator) / 10
    parts = []
    for part in images.split(500):
        maps = functional.conv2d(part.float() / 127.5 - 1, filters, stride=2, padding=2).relu()
        parts.append(functional.adaptive_avg_pool2d(maps, 4).flatten(1))
    return torch.cat(parts)


@lru_cache
def images_of(source: str, folder: str) -> Split:
    """The training images."""
    return load_dataset(source, folder).train


def problem_of(arguments: argparse.Namespace, size: int) -> dict[str, Tensor]:
    """Standardised features of one size and their labels."""
    if arguments.features:
        tensors = load_file(arguments.features)
        if not {"features", "labels"} <= tensors.keys():
            raise UserError(f"{arguments.features}: needs tensors 'features' and 'labels', has {sorted(tensors)}")
        features, labels = tensors["features"][: arguments.rows, :size], tensors["labels"][: arguments.rows]
        if features.shape[1] < size:
            raise UserError(f"{arguments.features}: has {features.shape[1]} features, fewer than {size}")
    else:
        if size % 16:
            raise UserError(f"sizes must be multiples of 16, found {size}")
        split = images_of(arguments.source, arguments.data)
        features, labels = random_features(split.images[: arguments.rows], size), split.labels[: arguments.rows]
    check_features("benchmark", features, labels)
    return {"features": Standardiser.fit(features)(features), "labels": labels.contiguous()}


def measure(arguments: argparse.Namespace, size: int, solvers: list[str]) -> dict[str, dict[str, Any]]:
    """Each solver's objective, CPU and wall seconds and memory at one size.

    `peak_memory_mib` is the whole process (libraries and features included), `added_memory_mib` what solving added.
    """
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        problem, output = Path(folder) / "problem.safetensors", Path(folder) / "weights.safetensors"
        tensors = problem_of(arguments, size)
        save_file(tensors, problem)
        for solver in solvers:
            options = ["--cost", str(arguments.cost), "--threads", str(arguments.threads)]
            command = [sys.executable, __file__, "--solve", solver, str(problem), str(output), *options]
            subprocess.run(command, check=True)
            solved = load_file(output)
            names = ("cpu_seconds", "wall_seconds", "peak_memory_mib", "added_memory_mib")
            value = objective(tensors["features"], tensors["labels"], solved["weights"], arguments.cost)
            results[solver] = {"objective": value, **dict(zip(names, solved["costs"].tolist(), strict=True))}
            print(f"  {solver:8} {size:5} features: {describe(results[solver])}", flush=True)
    return results


def describe(result: dict[str, Any]) -> str:
    """One line of numbers."""
    return (
        f"objective {result['objective']:.6f}, {result['cpu_seconds']:.1f} CPU s, "
        f"{result['wall_seconds']:.1f} s, peak {result['peak_memory_mib']:.0f} MiB, "
        f"of it for solving {result['added_memory_mib']:.0f} MiB"
    )


def ratios(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    """Ours over liblinear's, of whatever both have."""
    names = ("objective", "cpu_seconds", "wall_seconds", "peak_memory_mib")
    return {name: ours[name] / theirs[name] for name in names if name in theirs}


def extrapolate(sizes: list[int], measured: list[dict[str, Any]], size: int) -> dict[str, Any]:
    """liblinear's CPU seconds by a power law of the size and its memory by a straight line."""
    seconds = [result["cpu_seconds"] for result in measured]
    exponent, offset = np.polyfit(np.log(sizes), np.log(seconds), 1)
    memory = np.polyval(np.polyfit(sizes, [result["peak_memory_mib"] for result in measured], 1), size)
    time_ = float(np.exp(offset) * size**exponent)
    return {"cpu_seconds": time_, "peak_memory_mib": float(memory), "exponent": float(exponent)}


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All measurements and their ratios."""
    about = {name: getattr(arguments, name) for name in ("rows", "cost", "threads", "source")}
    about["features"] = str(arguments.features) if arguments.features else "random filters"
    print(f"SVM, {about}")
    measured = {size: measure(arguments, size, ["ours", "sklearn"]) for size in sorted(arguments.sizes)}
    result: dict[str, Any] = {"about": about, "measured": measured, "ratios": {}}
    for size, both in measured.items():
        result["ratios"][size] = ratios(both["ours"], both["sklearn"])
        line = ", ".join(f"{name} {value:.9g}" for name, value in result["ratios"][size].items())
        print(f"ours / liblinear at {size} features: {line}")
    if arguments.large and len(measured) > 1:
        ours = measure(arguments, arguments.large, ["ours"])["ours"]
        theirs = extrapolate(list(measured), [both["sklearn"] for both in measured.values()], arguments.large)
        result["extrapolated"] = {"size": arguments.large, "ours": ours, "sklearn": theirs}
        result["extrapolated"]["ratios"] = ratios(ours, theirs)
        line = ", ".join(f"{name} {value:.3g}" for name, value in result["extrapolated"]["ratios"].items())
        print(
            f"ours / liblinear at {arguments.large} features, liblinear EXTRAPOLATED from {list(measured)} "
            f"({theirs['cpu_seconds']:.0f} CPU s, {theirs['peak_memory_mib']:.0f} MiB): {line}"
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data", help="folder that holds CIFAR-10")
    parser.add_argument("--source", default="cifar10", choices=["cifar10", "cifar100", "digits"])
    parser.add_argument("--features", type=Path, help="safetensors file with `features` and `labels`")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--large", type=int, default=4096, help="size without liblinear; 0 leaves it out")
    parser.add_argument("--cost", type=float, default=1e-3, help="C")
    parser.add_argument("--threads", type=int, default=1, help="of ours; liblinear has one")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    parser.add_argument("--solve", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        if arguments.solve:
            solver, problem, output = arguments.solve
            solve(solver, Path(problem), Path(output), arguments.cost, arguments.threads)
            return
        result = run(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    if arguments.json:
        write_json(arguments.json, json.loads(json.dumps(result)))


if __name__ == "__main__":
    main()

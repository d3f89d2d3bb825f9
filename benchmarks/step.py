"""The training step against the machine's ceiling.

    python benchmarks/step.py [--units 256 2048] [--batch 64 128 256] [--precision 32 bf16] [--json FILE]
    python benchmarks/step.py --models [--batch 64]

A step is losses, backward pass and fused Adam on a batch that is there, in float32 or, with precision bf16, with
products in bfloat16 as under `--trainer.precision bf16-mixed`; both against the same ceiling, float32's. Each round
measures the ceiling (the best of five 2048^3 float32 products on the same threads), then steps for about a second; the
table has the medians over rounds of seconds and efficiency = arithmetic / seconds / ceiling. For local DIM the
arithmetic is the formula that is printed; `counted` is PyTorch's own count of what ran. With --models, every method of
the paper's tables at its own sizes, with PyTorch's count. Efficiency in bf16 may exceed 1: the ceiling is float32's.
"""

import argparse
import itertools
import statistics
from pathlib import Path
from typing import Any

import torch
from measuring import FORMULA, Ceiling, local_dim_flops, save, seconds
from rich.console import Console
from rich.progress import track
from rich.table import Table
from stepping import counted_flops, local_dim, prepared, random_batch, stepper

from dim import cpu
from dim.compiling import compile_parts
from dim.models import AdversarialAutoencoder, Autoencoder, BiGAN, Model, NoiseAsTargets, Supervised

MODELS = {
    "supervised": Supervised,
    "AE": Autoencoder,
    "VAE": lambda: Autoencoder(kl_weight=1.0),
    "AAE": AdversarialAutoencoder,
    "BiGAN": BiGAN,
    "NAT": NoiseAsTargets,
}


def measure(model: Model, n: int, precision: str, flops: float | None, options: argparse.Namespace) -> dict[str, Any]:
    batch, ceiling = random_batch(n), Ceiling()
    counted = counted_flops(model, batch, precision)
    if options.compile:
        compile_parts(model)
    step, rates, times = stepper(model, batch, precision), [], []
    step()
    once = seconds(step)
    for _ in range(options.rounds):
        rates.append(ceiling())
        count = max(2, round(options.seconds / once))
        times.append(seconds(lambda count=count: [step() for _ in range(count)]) / count)
    arithmetic = flops or counted
    ratios = [arithmetic / time / rate for time, rate in zip(times, rates, strict=True)]
    return {
        "batch": n,
        "precision": precision,
        "gflop": arithmetic / 1e9,
        "counted_gflop": counted / 1e9,
        "ceiling_gflops": statistics.median(rates) / 1e9,
        "seconds": statistics.median(times),
        "efficiency": statistics.median(ratios),
        "efficiencies": [round(ratio, 3) for ratio in ratios],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, nargs="*", default=[256, 2048], help="widths of local DIM's critic")
    parser.add_argument("--batch", type=int, nargs="*", help="64 128 256; with --models 64")
    parser.add_argument("--precision", nargs="*", default=["32"], choices=("32", "bf16"))
    parser.add_argument("--models", action="store_true", help="every method, at its own width")
    parser.add_argument("--compile", action="store_true", help="as with dim fit --compile true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of steps in a round")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.batch = options.batch or ([64] if options.models else [64, 128, 256])
    cpu.tune()
    rows = []
    if options.models:
        sizes = itertools.product(MODELS, options.batch, options.precision)
        for name, n, precision in track(list(sizes), "models"):
            torch.manual_seed(0)
            rows.append({"model": name, **measure(prepared(MODELS[name](), n), n, precision, None, options)})
    else:
        print(FORMULA)
        sizes = itertools.product(options.units, options.batch, options.precision)
        for units, n, precision in track(list(sizes), "sizes"):
            flops = local_dim_flops(n, units)
            rows.append({"model": f"DIM(L), U = {units}", **measure(local_dim(units), n, precision, flops, options)})
    table = Table(title=f"{torch.get_num_threads()} threads", title_justify="left")
    for name in (
        "",
        "N",
        "precision",
        "GFLOP",
        "counted",
        "ceiling, GFLOP/s",
        "seconds a step",
        "images/s",
        "efficiency",
    ):
        table.add_column(name, justify="right" if name else "left")
    for row in rows:
        counted = f"{row['counted_gflop']:.1f}"
        speed = f"{row['batch'] / row['seconds']:.0f}"
        numbers = f"{row['gflop']:.1f}", counted, f"{row['ceiling_gflops']:.0f}", f"{row['seconds']:.4f}", speed
        table.add_row(row["model"], str(row["batch"]), row["precision"], *numbers, f"{row['efficiency']:.3f}")
    Console(width=110).print(table)
    save(options.json, options, formula=FORMULA, rows=rows)


if __name__ == "__main__":
    main()

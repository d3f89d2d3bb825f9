"""What an evaluation costs: encoding 60,000 images, and each part on the features of an encoder's layers.

    python benchmarks/evaluation.py --root DATA [--encoder dim_local_infonce_cifar10] [--only svm mlp] [--json FILE]

Each part runs once, with the settings of the protocol. Right before it the ceiling is measured, the best of five 2048^3
float32 products on the same threads. The arithmetic is PyTorch's count of the products and convolutions that the part
runs, taken while it runs, which makes parts of many small steps (the MLP probes) a little slower; efficiency =
arithmetic / seconds / ceiling. Factorisations, which SVM and logistic regression also run, are not in PyTorch's count.
"""

import argparse
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import Ceiling, save, seconds
from rich.console import Console
from rich.table import Table
from stepping import Counter

from dim import cpu
from dim.data.sources import load_dataset
from dim.errors import UserError
from dim.evaluation.battery import EVALUATIONS, PROBES, Task
from dim.evaluation.features import encode
from dim.evaluation.settings import PROTOCOLS
from dim.networks.encoders import LAYERS
from dim.progress import bars
from dim.release import load_pretrained


def cost(ceiling: Ceiling, action: Callable[[], Any]) -> dict[str, float]:
    rate = ceiling()
    with Counter() as counter:
        time = seconds(action)
    numbers = {"seconds": time, "gflop": counter.total / 1e9, "ceiling_gflops": rate / 1e9}
    return {**numbers, "efficiency": counter.total / time / rate}


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    data = load_dataset(options.source, options.root)
    encoder, ceiling = load_pretrained(options.encoder), Ceiling()
    sides = data.train.images, data.test.images
    features: list[dict[str, Any]] = []
    with bars() as progress, tempfile.TemporaryDirectory() as folder:

        def encode_both() -> None:
            features.extend(encode(encoder, images, LAYERS, progress=progress) for images in sides)

        rows: list[dict[str, Any]] = [{"part": "encoding", "layer": "all", **cost(ceiling, encode_both)}]
        protocol = PROTOCOLS[options.protocol]
        for part in options.only:
            for layer in EVALUATIONS[part].layers or LAYERS:
                sides = features[0][layer], features[1][layer], data.train, data.test
                task = Task(layer, *sides, protocol, 0, f"{folder}/", progress)
                found = cost(ceiling, functools.partial(EVALUATIONS[part].run, task))
                rows.append({"part": part, "layer": layer, **found})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data")
    parser.add_argument("--source", default="cifar10")
    parser.add_argument("--encoder", default="dim_local_infonce_cifar10", help="a released encoder or an exported file")
    parser.add_argument("--protocol", default="quick", choices=list(PROTOCOLS))
    parser.add_argument("--only", nargs="*", default=list(PROBES), choices=list(EVALUATIONS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cpu.tune()
    try:
        rows = measure(options)
    except UserError as error:
        parser.error(str(error))
    table = Table(title=f"{options.source}, {options.protocol} protocol", title_justify="left")
    for name in ("", "layer", "seconds", "GFLOP", "ceiling, GFLOP/s", "efficiency"):
        table.add_column(name, justify="right" if name not in ("", "layer") else "left")
    for row in rows:
        numbers = f"{row['seconds']:.1f}", f"{row['gflop']:.0f}", f"{row['ceiling_gflops']:.0f}"
        table.add_row(row["part"], row["layer"], *numbers, f"{row['efficiency']:.2f}")
    Console().print(table)
    save(options.json, options, rows=rows)


if __name__ == "__main__":
    main()

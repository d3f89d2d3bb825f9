"""The loader against torchvision's.

    python benchmarks/loader.py [--root DATA] [--json FILE]

Batches of 64 shuffled CIFAR-10 training images in [-1, 1] on the CPU, from `dim.data.DeviceLoader` and from
torchvision's CIFAR10 with ToTensor and Normalize through a DataLoader (shuffled, persistent workers), at each number of
workers. The first ten batches, which start the workers, are left out.
"""

import argparse
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from measuring import save
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import CIFAR10

from dim import cpu
from dim.data import ImageData

BATCH = 64
WARM_UP = 10


def images_per_second(batches: Iterable[Any], least: float = 3.0) -> float:
    """Over so many seconds, after the first batches; a pass that ends is followed by another."""
    number, images, start = 0, 0, 0.0
    while True:
        for batch in batches:
            number += 1
            if number == WARM_UP:
                start = time.perf_counter()
            elif number > WARM_UP:
                images += len(batch[0])
                if (elapsed := time.perf_counter() - start) >= least:
                    return images / elapsed


def torchvision_loader(root: str, workers: int) -> DataLoader:
    scale = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)])
    options = {"shuffle": True, "drop_last": True, "num_workers": workers, "persistent_workers": workers > 0}
    return DataLoader(CIFAR10(root, transform=scale), BATCH, **options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help="folder that holds cifar-10-batches-py")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    cpu.tune()
    data = ImageData("cifar10", options.root, batch_size=BATCH)
    data.prepare_data()
    data.setup()
    rows = [{"loader": "dim", "images_per_second": images_per_second(data.train_dataloader())}]
    for workers in track(options.workers, "torchvision"):
        speed = images_per_second(torchvision_loader(options.root, workers))
        rows.append({"loader": f"torchvision, {workers} workers", "images_per_second": speed})
    best = max(row["images_per_second"] for row in rows[1:])
    table = Table(title=f"{torch.get_num_threads()} threads", title_justify="left")
    for name in ("loader", "images/s", "relative to torchvision's best"):
        table.add_column(name, justify="left" if name == "loader" else "right")
    for row in rows:
        row["relative"] = row["images_per_second"] / best
        table.add_row(row["loader"], f"{row['images_per_second']:,.0f}", f"{row['relative']:.2f}")
    Console().print(table)
    save(options.json, options, loaders=rows)


if __name__ == "__main__":
    main()

"""The loader against torchvision's, and Lightning against a bare loop.

    python benchmarks/loader.py [--root DATA] [--json FILE]

Loader: batches of 64 shuffled CIFAR-10 training images in [-1, 1] on the CPU, from `dim.data.DeviceLoader` and from
torchvision's CIFAR10 with ToTensor and Normalize through a DataLoader (shuffled, persistent workers), at each number of
workers. The first ten batches, which start the workers, are left out.

Lightning: the same steps of DIM(L) (infoNCE, U = 128, fused Adam, the same loader) in a bare loop and by the trainer as
`dim fit` sets it up, without what watches (no logger, no probe), in turn; the median over rounds of the ratio of their
times for a step.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from measuring import local_dim, save
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import CIFAR10

from dim.allocator import keep_memory
from dim.callbacks import RunCheckpoint
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


def bare_seconds(data: ImageData, steps: int, folder: str) -> float:
    """Mean seconds of a step of the loop that anyone would write."""
    model = local_dim(128)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.5, 0.999), fused=True)
    for number, batch in enumerate(data.train_dataloader()):
        if number == WARM_UP:
            start = time.perf_counter()
        if number == WARM_UP + steps:
            break
        loss = torch.stack(list(model.losses(batch).losses.values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return (time.perf_counter() - start) / steps


class Clock(Callback):
    """When each batch begins."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_start(self, *args: Any) -> None:
        self.times.append(time.perf_counter())


def lightning_seconds(data: ImageData, steps: int, folder: str) -> float:
    clock = Clock()
    quiet = {"default_root_dir": folder, "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    callbacks = [clock, RunCheckpoint(every_n_steps=10**9)]
    trainer = pl.Trainer(accelerator="cpu", limit_train_batches=WARM_UP + steps + 1, callbacks=callbacks, **quiet)
    trainer.fit_loop.max_epochs = None
    trainer.fit_loop.epoch_loop.max_steps = WARM_UP + steps + 1
    trainer.fit(local_dim(128), datamodule=data)
    return (clock.times[WARM_UP + steps] - clock.times[WARM_UP]) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help="folder that holds cifar-10-batches-py")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    keep_memory()
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
    pairs = []
    for turn in track(range(options.rounds), "Lightning"):
        both = [bare_seconds, lightning_seconds]
        with tempfile.TemporaryDirectory() as folder:  # the trainer ends with a checkpoint, outside what is timed
            found = {f: f(data, options.steps, folder) for f in (both if turn % 2 else reversed(both))}
        pairs.append((found[bare_seconds], found[lightning_seconds]))
    ratio = statistics.median(ours / bare for bare, ours in pairs)
    bare, trainer = (statistics.median(column) for column in zip(*pairs, strict=True))
    rounds = " ".join(f"{ours / bare:.3f}" for bare, ours in pairs)
    print(f"a step: bare {bare:.4f} s, Lightning {trainer:.4f} s, ratio {ratio:.3f} (rounds: {rounds})")
    lightning = {"bare_seconds": bare, "lightning_seconds": trainer, "ratio": ratio, "pairs": pairs}
    save(options.json, options, loaders=rows, lightning=lightning)


if __name__ == "__main__":
    main()

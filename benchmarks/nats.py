"""How much of a local critic's infoNCE is learnt by heart: its nats on training and on test images, without labels.

    python benchmarks/nats.py RUN ... --root DATA [--batch 128] [--batches 60] [--json FILE]

Each RUN is a folder of `dim fit` with DeepInfoMax. Batches are of one size for all runs, since the bound depends on it;
batch norm is in eval mode.
"""

import argparse
import itertools
from pathlib import Path

import torch
from measuring import save
from rich.console import Console
from rich.table import Table

from dim import cpu
from dim.checkpoints import find_checkpoint
from dim.data import ImageData
from dim.data.loader import DeviceLoader
from dim.models import DeepInfoMax


@torch.no_grad()
def nats(model: DeepInfoMax, data: ImageData, split: str, size: int, batches: int) -> float:
    loader = DeviceLoader(data.splits[split].channels_last(), size, shuffle=True, drop_last=True, seed=0)
    found = [model.losses(batch).metrics["local_nats"] for batch in itertools.islice(loader, batches)]
    return torch.stack(found).mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--root", default="data")
    parser.add_argument("--source", default="cifar10", choices=("cifar10", "cifar100"))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cpu.tune()
    data = ImageData(options.source, options.root)
    data.setup()
    table, rows = Table("run", "epoch", "train, nats", "test, nats"), []
    for run in options.runs:
        path = find_checkpoint(run)
        model = DeepInfoMax.load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()
        epoch = torch.load(path, map_location="cpu", weights_only=True)["epoch"] + 1
        found = {split: nats(model, data, split, options.batch, options.batches) for split in ("train", "test")}
        rows.append({"epochs": epoch, **found})
        table.add_row(run, str(epoch), f"{found['train']:.3f}", f"{found['test']:.3f}")
    Console(width=100).print(table)
    options.runs = len(options.runs)
    save(options.json, options, rows=rows)


if __name__ == "__main__":
    main()

"""How much of a local critic's infoNCE is learnt by heart: its nats on training and on test images, without labels.

    python benchmarks/nats.py RUN ... --root DATA [--batch 128] [--batches 60] [--json FILE]

Each RUN is a folder of `dim fit` with DeepInfoMax and an encode-and-dot critic. Batches are of one size for all runs,
since the bound depends on it; batch norm is in eval mode. Beside them the root mean square of the gains and of the
shifts of the layer norm that ends the critic's keys.
"""

import argparse
import itertools
from pathlib import Path
from typing import cast

import torch
from measuring import save
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dim import cpu
from dim.checkpoints import find_checkpoint
from dim.data import ImageData
from dim.data.loader import DeviceLoader
from dim.models import DeepInfoMax
from dim.networks.critics import LocalDotCritic


@torch.no_grad()
def nats(model: DeepInfoMax, data: ImageData, split: str, size: int, batches: int) -> float:
    loader = DeviceLoader(data.splits[split].channels_last(), size, shuffle=True, drop_last=True, seed=0)
    found = [model.losses(batch).metrics["local_nats"] for batch in itertools.islice(loader, batches)]
    return torch.stack(found).mean().item()


def rms(values: Tensor) -> float:
    return values.detach().square().mean().sqrt().item()


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
    table, rows = Table("run", "epoch", "train, nats", "test, nats", "gains", "shifts"), []
    for run in options.runs:
        path = find_checkpoint(run)
        model = DeepInfoMax.load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()
        epoch = torch.load(path, map_location="cpu", weights_only=True)["epoch"] + 1
        found = {split: nats(model, data, split, options.batch, options.batches) for split in ("train", "test")}
        norm = cast(LocalDotCritic, model.critics["local"]).map_block.norm
        found |= {"gains": rms(norm.weight), "shifts": rms(norm.bias)}
        rows.append({"epochs": epoch, **found})
        table.add_row(run, str(epoch), *(f"{value:.3f}" for value in found.values()))
    Console(width=100).print(table)
    options.runs = len(options.runs)
    save(options.json, options, rows=rows)


if __name__ == "__main__":
    main()

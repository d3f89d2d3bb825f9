"""Encoders of runs on held-out labels: the quick protocol's MLP probes, judged on training images.

    python benchmarks/heldout.py RUN ... --root DATA [--json FILE]

To choose between trainings without looking at test images. Probes are fitted on 45,000 of CIFAR's training images and
judged on the 5,000 that `recipes.py` holds out; a RUN (a folder, a checkpoint or an exported file) that was trained on
the whole split has seen those images, but no label.
"""

import argparse
from pathlib import Path

from measuring import save
from recipes import HELD_OUT, probe
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import dim
from dim import cpu
from dim.checkpoints import find_checkpoint
from dim.data import ImageData
from dim.files import sha256
from dim.networks.encoders import LAYERS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--root", default="data")
    parser.add_argument("--source", default="cifar10", choices=("cifar10", "cifar100"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cpu.tune()
    data = ImageData(options.source, options.root, validation=HELD_OUT)
    data.setup()
    rows = []
    table = Table(title=f"{HELD_OUT} held-out training images, top-1 %", title_justify="left")
    for name in ("run", *LAYERS):
        table.add_column(name, justify="left" if name == "run" else "right", overflow="fold")
    with Progress() as progress:
        for run in options.runs:
            accuracy = probe(dim.load_encoder(run), data, progress)
            rows.append({"checkpoint_sha256": sha256(find_checkpoint(run)), "accuracy": accuracy})
            table.add_row(run, *(f"{accuracy[layer]:.2f}" for layer in LAYERS))
    Console(width=120).print(table)
    options.runs = len(options.runs)
    save(options.json, options, rows=rows)


if __name__ == "__main__":
    main()

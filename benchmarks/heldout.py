"""Encoders of runs on held-out labels: the quick protocol's MLP probes, judged on training images.

    python benchmarks/heldout.py RUN ... --root DATA [--probe "dropout=0.5" "weight_decay=1e-3" ...] [--layers fc]
        [--json FILE]

To choose between trainings, or between probes, without looking at test images. Probes are fitted on 45,000 of CIFAR's
training images and judged on the 5,000 that `recipes.py` holds out; a RUN (a folder, a checkpoint or an exported file)
that was trained on the whole split has seen those images, but no label. `--probe` changes settings of the quick
protocol's probe, such as the two that the paper tuned on its test images.
"""

import argparse
import dataclasses
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
from dim.evaluation.mlp import MLPProbe
from dim.files import sha256
from dim.networks.encoders import LAYERS


def changed(text: str) -> MLPProbe:
    """`dropout=0.5,epochs=20` as a probe."""
    probe = MLPProbe()
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in ("hidden", "dropout", "epochs", "batch_size", "learning_rate", "weight_decay", "seed"):
            raise SystemExit(f"'{part}' is no change of a probe: NAME=VALUE with a NAME of MLPProbe that is a number")
        probe = dataclasses.replace(probe, **{name: type(getattr(probe, name))(value)})
    return probe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--root", default="data")
    parser.add_argument("--source", default="cifar10", choices=("cifar10", "cifar100"))
    parser.add_argument("--probe", nargs="*", default=[""], metavar="CHANGES")
    parser.add_argument("--layers", nargs="*", default=list(LAYERS), choices=LAYERS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cpu.tune()
    probes = {text: changed(text) for text in options.probe}
    data = ImageData(options.source, options.root, validation=HELD_OUT)
    data.setup()
    rows = []
    table = Table(title=f"{HELD_OUT} held-out training images, top-1 %", title_justify="left")
    for name in ("run", "probe", *options.layers):
        table.add_column(name, justify="right" if name in LAYERS else "left", overflow="fold")
    with Progress() as progress:
        for run in options.runs:
            found = probe(dim.load_encoder(run), data, progress, list(probes.values()), options.layers)
            for text, accuracy in zip(probes, found, strict=True):
                name = text or "quick"
                rows.append({"checkpoint_sha256": sha256(find_checkpoint(run)), "probe": name, "accuracy": accuracy})
                table.add_row(run, name, *(f"{accuracy[layer]:.2f}" for layer in options.layers))
    Console(width=120).print(table)
    options.runs = len(options.runs)
    save(options.json, options, rows=rows)


if __name__ == "__main__":
    main()

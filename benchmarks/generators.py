"""What the models that decode have learnt: reconstruction error, diversity of samples, and pictures of both.

    python benchmarks/generators.py RUN [RUN ...] --root DATA [--pictures FOLDER] [--json FILE]

On test images, each number is given relative to one that means something without a model: squared error relative
to answering with the training images' mean (1 is worthless), and the mean distance between two samples relative to
that between two real images (0 is a collapsed generator).
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torchvision.utils import make_grid, save_image

import dim.models
from dim.checkpoints import read_checkpoint
from dim.data.loader import normalise
from dim.data.sources import ROOT, load_dataset
from dim.models.base import Model


def load(run: str) -> tuple[Model, dict[str, Any]]:
    """The whole model of a run in eval mode, and what it was trained on."""
    content = read_checkpoint(run)
    model = getattr(dim.models, content["run"]["model"])(**content["hyper_parameters"])
    model.load_state_dict(content["state_dict"])
    return model.eval(), content["datamodule_hyper_parameters"]


def distance(images: Tensor) -> float:
    """Mean Euclidean distance between two different images."""
    return float(torch.pdist(images.flatten(1)).mean())


@torch.no_grad()
def measure(run: str, root: str, count: int, pictures: Path | None) -> dict[str, Any]:
    """Both ratios for one run, and its pictures."""
    model, trained = load(run)
    data = load_dataset(trained["source"], root)
    images = normalise(data.test.images[:count])
    mean = normalise(data.train.images).mean(0)
    made = model.pictures(images)
    result: dict[str, Any] = {"run": run}
    if "reconstructions" in made:
        error, worthless = ((images - guess).square().mean() for guess in (made["reconstructions"], mean))
        result |= {"reconstruction_error": float(error), "relative_error": float(error / worthless)}
    if "samples" in made:
        spread = distance(made["samples"])
        result |= {"sample_distance": spread, "relative_distance": spread / distance(images)}
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        for name, batch in made.items():
            path = pictures / f"{'-'.join(Path(run).parts[-2:])}-{name}.png"
            save_image(make_grid(batch[:64], normalize=True, value_range=(-1, 1)), path)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="folders of runs")
    parser.add_argument("--root", default=ROOT, help="folder with the data")
    parser.add_argument("--images", type=int, default=1000, help="test images and samples")
    parser.add_argument("--pictures", type=Path, help="write image grids into this folder")
    parser.add_argument("--json", help="also write the numbers here")
    options = parser.parse_args()
    runs = track(options.runs, "measuring")
    results = [measure(run, options.root, options.images, options.pictures) for run in runs]
    table = Table(title=f"{options.images} test images, {options.images} samples")
    columns = ("reconstruction_error", "relative_error", "sample_distance", "relative_distance")
    for column in ("run", *columns):
        table.add_column(column.replace("_", " "))
    for row in results:
        table.add_row(row["run"], *(f"{row[c]:.3f}" if c in row else "-" for c in columns))
    Console().print(table)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()

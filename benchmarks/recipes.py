"""Which recipe learns soonest: short trainings of local DIM, probed on held-out training images.

    python benchmarks/recipes.py --root DATA [--epochs 2] [--try "units=256" "batch=32,lr=7e-4" ...] [--json FILE]
        [--page docs/recipe-log.md]

Trains DIM(L) with infoNCE on 45,000 of CIFAR's training images and fits the quick protocol's MLP probes on the same
images, judged on the other 5,000: the test split is never looked at. A recipe is a list of changes to `BASE`; each
result is kept as soon as it is there, with what made it, and a recipe that the file holds is not trained again. Minutes
are of the training alone. Set OMP_NUM_THREADS; minutes compare if the same number of cores was free for each.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from measuring import save
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from dim import cpu
from dim.data import ImageData
from dim.data.loader import DeviceLoader, normalise
from dim.evaluation.features import encode
from dim.evaluation.mlp import MLPProbe, mlp
from dim.files import replacing
from dim.models import DeepInfoMax
from dim.models.optimisation import parameter_groups
from dim.networks.encoders import LAYERS
from dim.networks.whitening import whiten
from dim.provenance import machine, versions
from dim.reporting.text import with_section

HELD_OUT = 5000
BEGIN, END = (
    "<!-- recipes: written by benchmarks/recipes.py; do not edit -->",
    "<!-- end of recipes -->",
)
BASE: dict[str, Any] = {
    "objective": "infonce",
    "units": 128,
    "batch": 64,
    "gamma": 0.1,
    "negatives": 0,  # all
    "lr": 1e-3,
    "beta1": 0.5,
    "beta2": 0.999,
    "warmup": 200,  # steps
    "spread": 0.0,  # standard deviation of the scores at the start; 0 leaves the critic as it is
    "whitening": 0,  # so many convolutions, from the first on, start as a whitening of their input's patches
    "gains": 1,  # 0: the gains and shifts of the critic's layer norms stay as they start, and with them the temperature
    "dropout": 0.0,  # of the last convolutional map on its way to fc, in training alone
    "average": 0.0,  # probe an exponential moving average of the encoder with this rate (per step) instead
    "decay": 0.0,  # decoupled weight decay of matrices and filters; a step takes off lr times this
    "ghost": 0,  # codes from a second pass, whose batch norm sees so many images at a time, which is not the paper's
    "views": 0,  # 1: codes of one augmented view against maps of another, which is not the paper's
    "precision": "32",  # bf16: products in bfloat16, as with --trainer.precision bf16-mixed
    "seed": 0,
}


def parse(text: str) -> dict[str, Any]:
    """`batch=32,lr=7e-4` as changes to BASE, of its types."""
    changes = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in BASE or not value:
            raise SystemExit(f"'{part}' is no change: NAME=VALUE with NAME of {', '.join(BASE)}")
        if name == "precision" and value not in ("32", "bf16"):
            raise SystemExit(f"'{part}': precision is 32 or bf16")
        changes[name] = type(BASE[name])(value)
    return changes


@torch.no_grad()
def whiten_blocks(blocks: Sequence[nn.Module], maps: Tensor) -> None:
    """The convolutions of the blocks, one after the other, each from the maps that the ones before make."""
    for block in blocks:
        whiten(next(part for part in block.modules() if isinstance(part, nn.Conv2d)), maps)
        maps = block(maps)


def rate(step: int, steps: int, recipe: dict[str, Any]) -> float:
    """The learning rate relative to the highest: linear warm-up, then half a cosine."""
    if step < recipe["warmup"]:
        return (step + 1) / recipe["warmup"]
    share = (step - recipe["warmup"]) / max(1, steps - recipe["warmup"])
    return 0.5 * (1 + math.cos(math.pi * share))


def moving(rate: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """The rule of an exponential moving average that forgets its first steps sooner; counters are taken as they are."""

    def mean_of(mean: Tensor, new: Tensor, steps: Tensor | int) -> Tensor:
        weight = 1 - min(rate, (1 + int(steps)) / (10 + int(steps)))
        return mean.lerp(new, weight) if mean.is_floating_point() else new

    return mean_of


def train(data: ImageData, recipe: dict[str, Any], epochs: int, progress: Progress) -> tuple[nn.Module, dict[str, Any]]:
    """The trained encoder, and minutes and the last steps' information."""
    torch.manual_seed(recipe["seed"])
    model = DeepInfoMax(
        units=recipe["units"],
        gamma=recipe["gamma"],
        negatives=recipe["negatives"] or None,
        local_objective=recipe["objective"],
        score_spread=recipe["spread"] or None,
        views=bool(recipe["views"]),
        ghost_batch=recipe["ghost"] or None,
    )
    if recipe["whitening"]:
        blocks = list(model.encoder.get_submodule("convs").children())
        whiten_blocks(blocks[: recipe["whitening"]], normalise(data.splits["train"].spread(2000).images))
    if not recipe["gains"]:
        for norm in (part for part in model.critics.modules() if isinstance(part, nn.LayerNorm)):
            norm.requires_grad_(False)
    if recipe["dropout"]:
        encoder = model.encoder
        encoder.fc = nn.Sequential(nn.Dropout(recipe["dropout"]), encoder.get_submodule("fc"))
    averaging = AveragedModel(model.encoder, avg_fn=moving(recipe["average"]), use_buffers=True)
    groups, betas = parameter_groups(model, recipe["decay"]), (recipe["beta1"], recipe["beta2"])
    optimiser = torch.optim.AdamW(groups, recipe["lr"], betas, fused=True)
    loader = DeviceLoader(
        data.splits["train"].channels_last(), recipe["batch"], shuffle=True, drop_last=True, seed=recipe["seed"]
    )
    steps, nats = epochs * len(loader), []
    bar, start = progress.add_task("training", total=steps), time.perf_counter()
    for epoch in range(epochs):
        for index, batch in enumerate(loader):
            step = epoch * len(loader) + index
            for group in optimiser.param_groups:
                group["lr"] = recipe["lr"] * rate(step, steps, recipe)
            model.reseed(epoch, index)
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe["precision"] == "bf16"):
                result = model.losses(batch)
            optimiser.zero_grad()
            torch.stack(list(result.losses.values())).sum().backward()
            optimiser.step()
            if recipe["average"]:
                averaging.update_parameters(model.encoder)
            if step >= steps - 100 and "local_nats" in result.metrics:
                nats.append(result.metrics["local_nats"])
            progress.update(bar, advance=1)
    minutes = (time.perf_counter() - start) / 60
    progress.remove_task(bar)
    about = {"minutes": minutes, "steps": steps, "nats": torch.stack(nats).mean().item() if nats else None}
    return averaging.module if recipe["average"] else model.encoder, about


def probe(
    encoder: nn.Module,
    data: ImageData,
    progress: Progress,
    probes: Sequence[MLPProbe] = (MLPProbe(),),
    layers: Sequence[str] = LAYERS,
) -> list[dict[str, float]]:
    """Accuracies of each of the MLP probes, by default the quick protocol's, on the held-out images."""
    parts = data.splits["train"], data.splits["validation"]
    train, held = (encode(encoder, part.images, layers) for part in parts)
    bar = progress.add_task("probes", total=len(probes) * len(layers))
    found: list[dict[str, float]] = []
    for settings in probes:
        found.append({})
        for layer in layers:
            result = mlp(train[layer], parts[0].labels, held[layer], parts[1].labels, settings)
            found[-1][layer] = result["accuracy"]
            progress.update(bar, advance=1)
    progress.remove_task(bar)
    return found


def numbers(row: dict[str, Any]) -> list[str]:
    """The row's accuracies, and their mean."""
    accuracies = [row["accuracy"][layer] for layer in LAYERS]
    return [f"{value:.2f}" for value in (*accuracies, sum(accuracies) / len(accuracies))]


def print_table(rows: list[dict[str, Any]]) -> None:
    table = Table(title=f"{HELD_OUT} held-out training images, top-1 %", title_justify="left")
    for name in ("changed", "epochs", "minutes", "nats", *LAYERS, "mean"):
        table.add_column(name, justify="left" if name == "changed" else "right")
    for row in rows:
        nats = f"{row['nats']:.2f}" if row["nats"] is not None else "-"
        table.add_row(row["changed"] or "-", str(row["epochs"]), f"{row['minutes']:.1f}", nats, *numbers(row))
    Console(width=120).print(table)


def table_of(rows: list[dict[str, Any]]) -> str:
    """The page's table."""
    lines = [f"| changed | epochs | {' | '.join(LAYERS)} | mean |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    lines += [f"| {row['changed'] or '-'} | {row['epochs']} | {' | '.join(numbers(row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data")
    parser.add_argument("--source", default="cifar10", choices=("cifar10", "cifar100"))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--try", nargs="*", default=[""], dest="recipes", metavar="CHANGES", help=f"of {BASE}")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, help="rewrite the table of this page")
    options = parser.parse_args()
    for text in options.recipes:
        parse(text)  # before hours are spent on those that come first
    cpu.tune()
    data = ImageData(options.source, options.root, validation=HELD_OUT)
    data.setup()
    rows = json.loads(options.json.read_text())["rows"] if options.json and options.json.exists() else []
    with Progress() as progress:
        bar = progress.add_task("recipes", total=len(options.recipes))
        for text in options.recipes:
            asked = {"changed": text, "source": options.source, "epochs": options.epochs}
            if not any(asked.items() <= row.items() for row in rows):
                made_with = {"machine": machine(), "commit": versions()["commit"], "threads": torch.get_num_threads()}
                encoder, about = train(data, {**BASE, **parse(text)}, options.epochs, progress)
                (accuracy,) = probe(encoder, data, progress)
                rows.append({**asked, **about, "accuracy": accuracy, "made_with": made_with})
                save(options.json, options, base=BASE, rows=rows)
            progress.advance(bar)
    print_table(rows)
    if options.page:
        page = with_section(options.page.read_text(), table_of(rows), options.page, BEGIN, END)
        with replacing(options.page, "w") as file:
            file.write(page)


if __name__ == "__main__":
    main()

"""What watching a training costs: logs and online probes, relative to the same steps unwatched.

    python benchmarks/watching.py [--root DATA] [--source cifar10] [--steps 60] [--rounds 4] [--json FILE]

Each round trains DIM(L) (infoNCE, the cpu budget's sizes) for some steps unwatched (no logger, no probe), with logs
and vital signs, and with the online probe as well, in turn. A step's time is the mean over a round's steps (the first
ten are left out), so that what is done only every 50th step counts with its share; the table has the median over
rounds of the ratio to the unwatched steps of the same round. All with Lightning's trainer and its default interval.
"""

import argparse
import statistics
import tempfile
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch
from measuring import Clock, save
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dim.allocator import keep_memory
from dim.data import ImageData
from dim.models import DeepInfoMax
from dim.monitoring import OnlineProbe, VitalSigns

WARM_UP = 10
VARIANTS: dict[str, tuple[bool, list[type[Callback]]]] = {
    "unwatched": (False, []),
    "logs": (True, [VitalSigns]),
    "logs and probe": (True, [VitalSigns, OnlineProbe]),
}


def step_seconds(data: ImageData, variant: str, steps: int, folder: str) -> float:
    """Mean seconds of a step of a fresh model."""
    logs, callbacks = VARIANTS[variant]
    pl.seed_everything(0, verbose=False)
    model = DeepInfoMax(alpha=0, beta=1, gamma=0.1, local_critic="dot", local_objective="infonce", units=128)
    clock = Clock()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=WARM_UP + steps + 1,
        logger=TensorBoardLogger(folder, default_hp_metric=False) if logs else False,
        callbacks=[clock, *(callback() for callback in callbacks)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
    return (clock.times[WARM_UP + steps] - clock.times[WARM_UP]) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data")
    parser.add_argument("--source", default="cifar10")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    keep_memory()
    data = ImageData(options.source, options.root)
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        for turn in track(range(options.rounds), "rounds"):
            names = list(VARIANTS)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                seconds[name].append(step_seconds(data, name, options.steps, folder))
    plain = seconds["unwatched"]
    rows = [
        {
            "variant": name,
            "seconds": statistics.median(values),
            "ratio": statistics.median(value / base for value, base in zip(values, plain, strict=True)),
            "ratios": [value / base for value, base in zip(values, plain, strict=True)],
        }
        for name, values in seconds.items()
    ]
    title = f"{options.source}, batch 64, {torch.get_num_threads()} threads"
    table = Table(title=title, title_justify="left")
    for name in ("", "seconds a step", "ratio", "ratios of the rounds"):
        table.add_column(name, justify="right" if name else "left")
    for row in rows:
        ratios = " ".join(f"{ratio:.3f}" for ratio in row["ratios"])
        table.add_row(row["variant"], f"{row['seconds']:.4f}", f"{row['ratio']:.3f}", ratios)
    Console().print(table)
    save(options.json, options, rows=rows)


if __name__ == "__main__":
    main()

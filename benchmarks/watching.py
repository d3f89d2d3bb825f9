"""What a trainer costs over a bare loop, and logs and online probes over the same steps unwatched.

    python benchmarks/watching.py [--root DATA] [--source cifar10] [--steps 400] [--json FILE]

Four trainings of DIM(L) (infoNCE, U = 256, batches of 64, the same loader and fused Adam) take one step each in turn:
in the loop that anyone would write, by Lightning's trainer unwatched (no logger, no probe), with logs and vital signs
at the default interval, and with the online probe as well. A step lasts from one batch's start to the next, whatever is
done in between, and a machine whose speed drifts slows all alike. Ratios are those of the means over all steps but the
first, so that what is done only at every 50th counts with its share: `unwatched` against the bare loop, the others
against `unwatched`. The same ratio in each quarter of the steps tells how far it can be trusted.
"""

import argparse
import itertools
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from measuring import save
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from stepping import local_dim

from dim import cpu
from dim.data import ImageData
from dim.models import DeepInfoMax
from dim.monitoring import OnlineProbe, VitalSigns

WARM_UP, PARTS = 20, 4
BARE, UNWATCHED = "bare loop", "unwatched"
VARIANTS: dict[str, tuple[bool, list[type[Callback]]]] = {
    BARE: (False, []),
    UNWATCHED: (False, []),
    "logs": (True, [VitalSigns]),
    "logs and probe": (True, [VitalSigns, OnlineProbe]),
}


class Turns:
    """Lets several threads go on one after the other."""

    def __init__(self, threads: int) -> None:
        self.threads, self.turn, self.changed = threads, 0, threading.Condition()

    def wait(self, place: int) -> None:
        with self.changed:
            if not self.changed.wait_for(lambda: self.turn == place, timeout=300):
                raise TimeoutError("another training has stopped")

    def pass_on(self) -> None:
        with self.changed:
            self.turn = (self.turn + 1) % self.threads
            self.changed.notify_all()


class InTurn(Callback):
    """Takes a step when its turn comes, and notes how long it took."""

    def __init__(self, turns: Turns, place: int, tell: Callable[[], None]) -> None:
        self.turns, self.place, self.tell = turns, place, tell
        self.start = 0.0
        self.seconds: list[float] = []

    def on_train_batch_start(self, *args: Any) -> None:
        if self.start:
            self.seconds.append(time.perf_counter() - self.start)
            self.tell()
            self.turns.pass_on()
        self.turns.wait(self.place)
        self.start = time.perf_counter()

    def on_train_end(self, *args: Any) -> None:
        self.turns.pass_on()


def train(variant: str, pace: InTurn, options: argparse.Namespace, folder: str) -> list[float]:
    """Seconds of each step after the first ones."""
    model, data = local_dim(256), ImageData(options.source, options.root)
    if variant == BARE:
        loop(model, data, pace, WARM_UP + options.steps + 1)
        return pace.seconds[WARM_UP:]
    logs, callbacks = VARIANTS[variant]
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=WARM_UP + options.steps + 1,
        logger=TensorBoardLogger(folder, variant, default_hp_metric=False) if logs else False,
        callbacks=[pace, *(callback() for callback in callbacks)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
    return pace.seconds[WARM_UP:]


def loop(model: DeepInfoMax, data: ImageData, pace: InTurn, steps: int) -> None:
    """The loop that anyone would write."""
    data.prepare_data()
    data.setup()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.5, 0.999), fused=True)
    loader = data.train_dataloader()
    for batch in itertools.islice(itertools.chain.from_iterable(itertools.repeat(loader)), steps):
        pace.on_train_batch_start()
        loss = torch.stack(list(model.losses(batch).losses.values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    pace.on_train_end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data")
    parser.add_argument("--source", default="cifar10")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    cpu.tune()
    turns = Turns(len(VARIANTS))
    with tempfile.TemporaryDirectory() as folder, Progress() as progress, ThreadPoolExecutor(len(VARIANTS)) as pool:
        bar = progress.add_task("steps", total=(WARM_UP + options.steps) * len(VARIANTS))
        paces = [InTurn(turns, place, lambda: progress.advance(bar)) for place in range(len(VARIANTS))]
        running = [pool.submit(train, name, pace, options, folder) for name, pace in zip(VARIANTS, paces, strict=True)]
        seconds = dict(zip(VARIANTS, (future.result() for future in running), strict=True))
    size, rows = options.steps // PARTS, []
    for name, values in seconds.items():
        against = BARE if name in (BARE, UNWATCHED) else UNWATCHED
        other = seconds[against]
        parts = [slice(i, i + size) for i in range(0, size * PARTS, size)]
        row = {"variant": name, "against": against, "seconds": statistics.fmean(values)}
        ratios = [sum(values[part]) / sum(other[part]) for part in parts]
        rows.append({**row, "ratio": sum(values) / sum(other), "ratios": ratios})
    title = f"{options.source}, batch 64, {torch.get_num_threads()} threads, {options.steps} steps each"
    table = Table(title=title, title_justify="left")
    for name in ("", "against", "seconds a step", "ratio", "in each quarter"):
        table.add_column(name, justify="left" if name in ("", "against") else "right")
    for row in rows:
        ratios = " ".join(f"{ratio:.3f}" for ratio in row["ratios"])
        table.add_row(row["variant"], row["against"], f"{row['seconds']:.4f}", f"{row['ratio']:.3f}", ratios)
    Console().print(table)
    save(options.json, options, rows=rows)


if __name__ == "__main__":
    main()

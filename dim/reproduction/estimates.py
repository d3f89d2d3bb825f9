"""How long what is left will take: from measured runs where there are any, else by a rule that is stated."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dim.data import cifar, digits
from dim.errors import UserError, at_least
from dim.reproduction import recipes
from dim.reproduction.results import training_seconds
from dim.reproduction.runs import RECORD, Run, needed_evaluations, read_evaluation, read_record, state

IMAGES = {name: kind.train_images for name, kind in cifar.KINDS.items()} | {"digits": digits.TRAIN_IMAGES}
STEP_SECONDS, EVALUATION_SECONDS, START_SECONDS = 0.25, 30.0, 15.0
BIGAN = 3
"""Its steps cost so many times as much."""
RULE = (
    f"rule: {START_SECONDS:.0f} s to start, {STEP_SECONDS} s a step (DIM(L) infoNCE, cpu budget, one thread beside "
    f"another job; BiGAN {BIGAN} times as much), {EVALUATION_SECONDS:.0f} s for each evaluation of a layer of 60,000 "
    "images under the quick protocol; other protocols and GPUs differ much"
)


@dataclass(frozen=True)
class Estimate:
    """Seconds that are left, None where nothing tells, and what they were taken from."""

    seconds: float | None
    source: str


def estimate(run: Run) -> Estimate:
    """How long the rest of `run` will take, counted as if a begun training began anew."""
    stage = state(run).stage
    if stage == "done":
        return Estimate(0.0, "")
    left = {"training", "evaluation"} if stage != "trained" else {"evaluation"}
    source = "measured"
    seconds = 0.0
    for part in left:
        measured = list(_measured(run, part))
        if not measured and run.budget == "paper":
            return Estimate(None, "no rule")
        if not measured:
            source = "rule"
        seconds += statistics.median(measured) if measured else _by_rule(run, part)
    if stage == "begun" and "training" in left:
        record = read_record(run.folder)
        assert record is not None
        seconds = max(START_SECONDS, seconds - training_seconds(record))
    return Estimate(seconds, source)


def _measured(run: Run, part: str) -> Iterator[float]:
    """Wall times of finished runs with the same training but for data of the same size and seed."""
    same = [data for data, images in IMAGES.items() if images == IMAGES.get(run.data)] or [run.data]
    for data in same:
        for path in sorted((run.places.runs / run.budget / data / run.row.name).glob(f"seed*/{RECORD}")):
            try:
                record = read_record(path.parent)
            except UserError:  # damaged: its own run says so
                continue
            if record is None or not record["trained"] or not _alike(record["recipe"], run.recipe):
                continue
            if part == "training":
                yield training_seconds(record)
            elif evaluation := _evaluation_seconds(run, path.parent):
                yield evaluation


def _alike(recipe: dict, other: dict) -> bool:
    changed = recipes.differences(recipe, other)
    return not set(changed) - {"seed_everything", "data.init_args.source"}


def _evaluation_seconds(run: Run, folder: Path) -> float | None:
    """The measured time of the evaluations that the run needs, if all of them were measured."""
    content = read_evaluation(folder / run.results)
    if content is None or any(layer not in content["results"].get(name, {}) for name, layer in needed_evaluations(run)):
        return None
    times = content["wall_time"]
    return START_SECONDS + times.get("encoding", 0.0) + sum(times[name] for name in run.evaluating.only)


def _by_rule(run: Run, part: str) -> float:
    images = IMAGES.get(run.data, 50_000)
    if part == "evaluation":
        return START_SECONDS + EVALUATION_SECONDS * len(run.evaluating.only) * 3 * images / 50_000
    at_least(1, batch_size=run.batch_size)
    steps = recipes.get(run.recipe, "trainer.limit_train_batches", None)
    whole = images // run.batch_size
    per_epoch = min(whole, steps) if isinstance(steps, int) else int(whole * (steps if steps else 1))
    bigan = recipes.get(run.recipe, "model.class_path", "").endswith("BiGAN")
    return START_SECONDS + STEP_SECONDS * (BIGAN if bigan else 1) * per_epoch * (run.epochs or 1)

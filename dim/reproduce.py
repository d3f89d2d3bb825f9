"""`dim reproduce`: the paper's tables and figures, trained, evaluated and printed beside what was published."""

import contextlib
import itertools
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from dim import fit
from dim.errors import UserError, at_least
from dim.parsing import parse
from dim.reproduction import estimates, recipes, results, tables
from dim.reproduction.budgets import BUDGETS, BudgetName, Evaluating, default_budget
from dim.reproduction.executors import Cluster, Executor, Machine, Slurm
from dim.reproduction.jobs import Outcome
from dim.reproduction.published import note
from dim.reproduction.rows import GRIDS, Row, data_of, name_of, refuse_own, rows_of, select
from dim.reproduction.runs import Places, Run, plan_run, state

Where = Literal["local", "gpus", "slurm"]


def reproduce(
    experiment: str,
    data: str | None = None,
    budget: BudgetName | None = None,
    rows: str = "*",
    seeds: int = 1,
    root: str | None = None,
    download: bool = False,
    retrain: bool = False,
    where: Where = "local",
    devices: str = "0",
    slurm: Slurm = Slurm(),  # noqa: B008 (a parser reads the default)
    configs: Path = Path("configs"),
    runs: Path = Path("runs"),
    output: Path = Path("results"),
    dry_run: bool = False,
    extra: Sequence[str] = (),
) -> int:
    """Trains and evaluates what a table or figure of the paper lacks, and prints it beside the published numbers.

    Run again, it does only what is left, from the last checkpoint of what was interrupted. A row whose settings have
    changed since it was trained is marked stale and left out of the numbers. A row that fails is reported and does not
    stop the others; the exit status is then 1. Options after a lone -- are given to every `dim fit`; with
    `-- --data.validation 5000` rows are trained without so many images and judged on them instead of on test images.

    Args:
        experiment: table1, table4 or table5; the grid of a figure: negatives (their number, for three objectives),
            weights (alpha, beta and gamma); or NAME.yaml with rows of your own, each a label, a config and options.
        data: cifar10, cifar100, digits, separated by commas; by default those that the paper has.
        budget: smoke (one epoch, MLP probes; table 4: SVMs), cpu (two epochs, quick protocol; table 4: standard),
            sitting (twenty; add -- --trainer.precision bf16-mixed where the processor has bfloat16), paper (as
            published), demo; by default cpu, and demo for digits.
        rows: which rows, shell patterns of their labels or configs, separated by commas: "DIM(L)*,VAE".
        seeds: train each row with seeds 0 to SEEDS - 1.
        root: folder with the data; by default the trainer's.
        download: fetch CIFAR if it is not there.
        retrain: train stale rows again; the old run is kept beside the new one as seedK.1.
        where: local does one row after the other; gpus one on each of `devices`; slurm submits a job for each run.
        devices: GPUs of this machine, separated by commas.
        slurm: what a job asks of the cluster.
        configs: folder with the configs.
        runs: where runs live: RUNS/BUDGET/DATA/NAME/seedK.
        output: where the table is written, as EXPERIMENT-DATA-BUDGET.json and .csv.
        dry_run: show what is left and how long it may take (--dry-run does too).

    Returns:
        The exit status: 0 if everything that was asked for is done.
    """
    at_least(1, seeds=seeds)
    name_of(experiment)
    refuse_own(extra, "behind --")
    places = Places(configs, runs, root, download)
    tasks: list[Task] = []
    for name in (data or ",".join(data_of(experiment))).split(","):
        tasks.append(Task(experiment, name, budget or default_budget(name), places, seeds, tuple(extra)))
    chosen = [run for task in tasks for run in task.chosen(rows)]
    if root is not None and not Path(root).exists() and not download and not dry_run:
        raise UserError(f"root {root} does not exist: give the folder with the data, or --download true")
    training = {"missing", "begun", *(["stale"] if retrain else [])}
    check_options([run for run in chosen if state(run).stage in training])
    if dry_run:
        show_plan(chosen)
        return 0
    for task in tasks:
        place = results.place(output, task.name, task.data, task.budget)
        results.check(place, task.extra, [row for row, _ in task.rows], seeds)
    executors: dict[Where, Callable[[], Executor]] = {
        "local": Machine,
        "gpus": lambda: Machine.gpus(devices.split(",")),
        "slurm": lambda: Cluster(runs / "jobs", slurm),
    }
    if where == "slurm":
        check_job(chosen, slurm.gpus)
    executor = executors[where]()
    if where == "gpus":
        check_gpus(devices.split(","), torch.cuda.device_count())
    outcomes, stopped = carry_out(executor, chosen, retrain)
    for task in tasks:
        task.report(output)
    return conclude(outcomes, stopped, len(chosen))


def check_options(runs: Sequence[Run]) -> None:
    """Refuses, of runs that are to be trained, options that `dim fit` does not take, or that cannot be.

    Raises:
        UserError: a row's own options, or those behind --, are none of its model's, or ask for what it cannot do.
    """
    for run in {(run.data, run.row.name): run for run in runs}.values():
        try:
            fit.check(run.fit_arguments()[1:])
        except UserError as error:
            choose = "; --rows chooses rows that take the same options" if "has no option" in str(error) else ""
            raise UserError(f"{run.row.label}, {run.data}: {error}{choose}") from error


def check_gpus(devices: Sequence[str], found: int) -> None:
    """Refuses devices that are not there: a process that sees no GPU would train on the CPU, for days.

    Raises:
        UserError: there are none, or a number is too high.
    """
    if not found:
        raise UserError("where is gpus, but PyTorch finds none here: leave --where out to train on the CPU")
    if missing := [device for device in devices if device.isdigit() and int(device) >= found]:
        raise UserError(f"devices: there is no GPU {', '.join(missing)} here, PyTorch finds {found}, counted from 0")


def check_job(runs: Sequence[Run], gpus: int) -> None:
    """Refuses jobs whose GPUs are not those that their training takes.

    Raises:
        UserError: more devices than GPUs would fail, fewer would leave some idle.
    """
    for run in runs:
        devices = recipes.get(run.recipe, "trainer.devices", 1)
        if gpus and isinstance(devices, int) and devices > 0 and devices != gpus:
            raise UserError(
                f"a job has {gpus} GPUs (slurm.gpus), {run.title} trains on {devices} (trainer.devices, behind --): "
                "make them equal"
            )


class Task:
    """An experiment on one data set under one budget: all its rows, each with its runs."""

    def __init__(
        self,
        experiment: str,
        data: str,
        budget: BudgetName,
        places: Places,
        seeds: int,
        extra: tuple[str, ...],
    ) -> None:
        self.name, self.data, self.budget, self.extra = name_of(experiment), data, budget, extra
        evaluating = evaluation_of(experiment, budget)
        self.rows: list[tuple[Row, list[Run]]] = [
            (row, [plan_run(row, data, budget, seed, evaluating, places, extra) for seed in range(seeds)])
            for row in rows_of(experiment, data, places.configs)
        ]
        if len(held_out := {run.validation for _, runs in self.rows for run in runs}) > 1:
            counts = " and on ".join(map(str, sorted(held_out)))
            raise UserError(
                f"{experiment}: rows judged on {counts} held-out images are no table: give data.validation to all, "
                "behind --"
            )

    def chosen(self, patterns: str) -> list[Run]:
        """The runs of the rows that match, the first seed of all of them first."""
        labels = select([row for row, _ in self.rows], patterns)
        runs = [runs for row, runs in self.rows if row in labels]
        return list(itertools.chain.from_iterable(zip(*runs, strict=True)))

    def report(self, output: Path) -> None:
        """Prints and writes the table of what there is."""
        content = results.gather(self.name, self.data, self.budget, self.rows, self.extra)
        images = f"{content['validation']} held-out training images of " if "validation" in content else ""
        title = f"{self.name} on {images}{self.data}, budget {self.budget}: {content['budget']['about']}"
        said = "" if "validation" in content else note(content["experiment"], content["data"])
        tables.print_experiment(results.long_rows(content), title, said)
        path = results.write(content, output)
        print(f"results: {path} and {path.with_suffix('.csv')}")


def evaluation_of(experiment: str, budget: BudgetName) -> Evaluating:
    """How an experiment's encoders are evaluated."""
    if experiment == "table4":
        return BUDGETS[budget].battery
    probes = BUDGETS[budget].probes
    return Evaluating(probes.protocol, ("mlp",)) if experiment in GRIDS else probes


def show_plan(runs: Sequence[Run]) -> None:
    """Prints what is left of each run and how long it may take."""
    how = {f"{run.budget}: {run.evaluating.protocol} protocol, {', '.join(run.evaluating.only)}" for run in runs}
    table = Table(title="plan; evaluations: " + "; ".join(sorted(how)), title_justify="left")
    for name in ("row", "data", "seed", "budget", "epochs", "state", "left", "taken from"):
        table.add_column(name, no_wrap=name != "state")
    guesses = [estimates.estimate(run) for run in runs]
    for run, guess in zip(runs, guesses, strict=True):
        about = (run.row.label, run.data, str(run.seed), run.budget, str(run.epochs))
        left = "?" if guess.seconds is None else duration(guess.seconds)
        table.add_row(*about, results.describe(state(run)), left, guess.source)
    tables.wide_console().print(table)
    known = [guess.seconds for guess in guesses if guess.seconds is not None]
    unknown = len(runs) - len(known)
    more = f", and {unknown} runs at the paper's settings, for which there is no rule" if unknown else ""
    print(f"one after the other about {duration(sum(known))}{more}; {estimates.RULE}")


def duration(seconds: float) -> str:
    """`12 s`, `5 min`, `3.2 h`, `41 d`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"


def carry_out(executor: Executor, runs: Sequence[Run], retrain: bool) -> tuple[dict[Run, Outcome], int | None]:
    """Works on runs until all have ended or a signal stops them; their outcomes, and the signal."""
    outcomes: dict[Run, Outcome] = {}
    with Screen(len(runs)) as screen, _signals_passed_on(executor) as received:

        def done(run: Run, outcome: Outcome) -> None:
            outcomes[run] = outcome
            screen.done(run, outcome)

        executor.run(runs, retrain, screen.watch, done)
        return outcomes, received[0] if received else None


@contextlib.contextmanager
def _signals_passed_on(executor: Executor) -> Iterator[list[int]]:
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        received.append(number)
        executor.stop(number)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Screen:
    """What is going on: bars on a terminal, elsewhere a line when a run's phase changes or it ends."""

    def __init__(self, total: int) -> None:
        self.console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        line = TextColumn("{task.fields[line]}")
        self.progress = Progress(*columns, line, console=self.console, disable=not self.console.is_terminal)
        self.bar = self.progress.add_task("runs", total=total, line="")
        self.total, self.ended = total, 0
        self.phases: dict[Run, str] = {}
        self.began: dict[Run, float] = {}

    def __enter__(self) -> "Screen":
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def watch(self, run: Run, phase: str, line: str) -> None:
        self.began.setdefault(run, time.monotonic())
        if self.phases.get(run) != phase:
            self.phases[run] = phase
            self._print(f"{run.title}: {phase}")
        self.progress.update(self.bar, line=f"{run.title}: {phase}  {line}"[: self.console.width // 2])

    def done(self, run: Run, outcome: Outcome) -> None:
        self.ended += 1
        self.progress.advance(self.bar)
        # Nothing was done for a run that was complete.
        spent = f" after {duration(time.monotonic() - self.began[run])}" if run in self.began else ""
        message = f": {outcome.message}" if outcome.message else ""
        self._print(f"[{self.ended}/{self.total}] {run.title}: {outcome.status}{spent}{message}")

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def conclude(outcomes: dict[Run, Outcome], stopped: int | None, total: int) -> int:
    """Says on standard error what is not done, and returns the exit status."""
    for status, advice in (("failed", "run the command again to try again"), ("stale", "--retrain true trains anew")):
        affected = [(run, outcome) for run, outcome in outcomes.items() if outcome.status == status]
        for run, outcome in affected:
            print(f"dim: {status}: {run.title}: {outcome.message}", file=sys.stderr)
        if affected:
            print(f"dim: {len(affected)} of {total} {status}: {advice}", file=sys.stderr)
    if stopped is not None:
        print("dim: stopped; the same command goes on from here", file=sys.stderr)
        return 128 + stopped
    return int(any(outcome.status != "done" for outcome in outcomes.values()))


def run(arguments: list[str]) -> None:
    """Runs `dim reproduce ARGUMENTS`."""
    extra: list[str] = []
    if "--" in arguments:
        place = arguments.index("--")
        arguments, extra = arguments[:place], arguments[place + 1 :]
    arguments = [word for word in arguments if word != "--dry-run"] + ["--dry_run=true"] * ("--dry-run" in arguments)
    options = parse("dim reproduce", reproduce, arguments, skip=["extra"])
    if status := reproduce(**options, extra=extra):
        sys.exit(status)

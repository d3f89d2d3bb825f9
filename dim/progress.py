"""Progress: shown as bars in a terminal; elsewhere as a line now and then, or not at all."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

SECONDS = 30.0
"""Between two lines about an evaluation that nobody watches."""

Report = Callable[[str, float], None]
"""`report(description, fraction)`, fraction in [0, 1]; one description is one bar."""


def silent(description: str, fraction: float) -> None:
    """A report that shows nothing."""


def _lines(console: Console) -> Report:
    printed = time.monotonic()

    def report(description: str, fraction: float) -> None:
        nonlocal printed
        if time.monotonic() - printed > SECONDS:
            printed = time.monotonic()
            console.print(f"{description}: {fraction:.0%}", markup=False, highlight=False, soft_wrap=True)

    return report


@contextlib.contextmanager
def bars(console: Console | None = None) -> Iterator[Report]:
    """A report that draws one bar for each description while the block runs, on `console` (default: standard error).

    Where that is no terminal, in a job's log, it prints at most a line in `SECONDS`.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as progress:

        def report(description: str, fraction: float) -> None:
            if description not in tasks:
                tasks[description] = progress.add_task(description, total=1.0)
            progress.update(tasks[description], completed=fraction)

        yield report


@contextlib.contextmanager
def progress_bar(
    title: str, total: int | None, done: int = 0, in_bytes: bool = False
) -> Iterator[Callable[[int], None]]:
    """Gives a function that moves the bar by a number of items (or bytes)."""
    console = Console(stderr=True)
    counts = (DownloadColumn(), TransferSpeedColumn()) if in_bytes else (MofNCompleteColumn(),)
    columns = (TextColumn("{task.description}"), BarColumn(), *counts, TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total, completed=done)
        yield lambda amount: progress.advance(task, amount)

"""Progress of an evaluation: a function called with a description and the fraction done."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Report = Callable[[str, float], None]
"""`report(description, fraction)`, fraction in [0, 1]; one description is one bar."""


def silent(description: str, fraction: float) -> None:
    """A report that shows nothing."""


@contextlib.contextmanager
def bars(console: Console | None = None) -> Iterator[Report]:
    """A report that draws one bar for each description while the block runs.

    Nothing is printed when `console` (default: standard error) is not a terminal.
    """
    console = console or Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def report(description: str, fraction: float) -> None:
            if description not in tasks:
                tasks[description] = progress.add_task(description, total=1.0)
            progress.update(tasks[description], completed=fraction)

        yield report

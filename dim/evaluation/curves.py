"""Whether an estimator has settled: its values on the way, as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dim import plots

History = Sequence[Mapping[str, Any]]


def convergence(path: str | Path, title: str, curves: Mapping[str, tuple[History, str]], ceiling: float) -> Path:
    """Draws estimates (nats) against epochs, with the most that the held-out samples can certify.

    Args:
        path: PATH.png and PATH.svg are written.
        curves: what the legend says -> a history, and which of its values to draw against its `epoch`.
        ceiling: log of the number of held-out samples.
    """
    figure, (axes,) = plots.figure(width=6.0)
    for (label, (history, value)), style in zip(curves.items(), ("-", "--", ":", "-."), strict=False):
        points = [entry["epoch"] for entry in history], [entry[value] for entry in history]
        axes.plot(*points, style, marker=".", label=label)
    axes.axhline(ceiling, color="grey", linewidth=1)
    axes.annotate("log n", (0, ceiling), (2, 2), textcoords="offset points", color="grey")
    axes.set(title=title, xlabel="epochs", ylabel="nats")
    axes.set_xlim(left=0)
    axes.legend()
    return plots.save(figure, path)

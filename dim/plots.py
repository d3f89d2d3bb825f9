"""Pictures of results: figures without a window or global state, saved whole or not at all."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dim.files import replacing


def figure(rows: int = 1, columns: int = 1, width: float = 4.8, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """A figure with a grid of axes, row by row, each `width` x `height` inches."""
    made = Figure((width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(made)
    grid = made.subplots(rows, columns, squeeze=False)
    return made, list(grid.flat)


def convergence(
    title: str, curves: Mapping[str, tuple[Sequence[Mapping[str, Any]], str]], ceiling: float, unit: str = "nats"
) -> Figure:
    """Whether an estimator has settled: its estimates against epochs, and the most that held-out samples can certify.

    Args:
        curves: what the legend says -> a history, and which of its values to draw against its `epoch`.
        ceiling: log of the number of held-out samples.
        unit: of the estimates and the ceiling.
    """
    made, (axes,) = figure(width=6.0)
    for label, (history, value) in curves.items():
        axes.plot([at["epoch"] for at in history], [at[value] for at in history], marker=".", label=label)
    axes.axhline(ceiling, color="grey", linestyle=":", label=f"ceiling {ceiling:.2f}")
    axes.set(title=title, xlabel="epochs", ylabel=unit)
    axes.legend(fontsize="small")
    return made


def save(figure: Figure, path: str | Path) -> Path:
    """Writes PATH.png and PATH.svg (whatever suffix `path` has), atomically; returns the PNG's path."""
    png = Path(path).with_suffix(".png")
    for target, options in ((png, {"dpi": 130}), (png.with_suffix(".svg"), {"metadata": {"Date": None}})):
        with replacing(target) as file:
            figure.savefig(file, format=target.suffix[1:], **options)
    return png

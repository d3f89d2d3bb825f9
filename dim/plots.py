"""Pictures of results: figures without a window or global state, saved whole or not at all."""

from pathlib import Path

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


def save(figure: Figure, path: str | Path) -> Path:
    """Writes PATH.png and PATH.svg (whatever suffix `path` has), atomically; returns the PNG's path."""
    png = Path(path).with_suffix(".png")
    for target, options in ((png, {"dpi": 130}), (png.with_suffix(".svg"), {"metadata": {"Date": None}})):
        with replacing(target) as file:
            figure.savefig(file, format=target.suffix[1:], **options)
    return png

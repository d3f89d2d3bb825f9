"""The convergence curve of an estimate."""

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from dim import plots

if TYPE_CHECKING:
    from dim.mine.estimator import MINE


def convergence(mine: "MINE", path: str | Path | None = None) -> Figure:
    """Held-out and training estimate against epochs, with the band of the spread, the result and the log n ceiling."""
    figure, (axes,) = plots.figure(width=6)
    epochs = [entry["epoch"] for entry in mine.history_]
    for name, label in (
        ("train", "training pairs"),
        ("validation", "validation pairs"),
        ("estimate", "held-out pairs"),
    ):
        if name in mine.history_[0]:
            axes.plot(epochs, [entry[name] for entry in mine.history_], marker=".", label=label)
    middle, spread = mine.mean_of_last_, mine.spread_
    axes.axhspan(middle - spread, middle + spread, color="tab:green", alpha=0.15, label="spread of the last")
    axes.axhline(mine.estimate_, color="black", linewidth=0.8, label=f"estimate {mine.estimate_:.3f}")
    axes.axhline(mine.ceiling_, color="grey", linestyle=":", label=f"log n = {mine.ceiling_:.2f}")
    axes.set(xlabel="epoch", ylabel=f"I(X; Z) [{mine.unit}]", title=f"MINE, {mine.bound}")
    axes.legend(fontsize="small")
    if path is not None:
        plots.save(figure, path)
    return figure

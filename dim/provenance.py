"""What numbers were made with."""

import importlib.metadata
import subprocess
from pathlib import Path

from dim.version import __version__


def versions() -> dict[str, str]:
    """Versions of this package (with its commit, in a checkout) and of what its numbers depend on."""
    found = {
        name: importlib.metadata.version(name)
        for name in ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "scikit-learn", "numpy")
    }
    folder = Path(__file__).parent
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40"], cwd=folder, capture_output=True, text=True
    )
    return {"deep-infomax": __version__, "commit": commit.stdout.strip(), **found}

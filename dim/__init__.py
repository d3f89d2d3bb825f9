"""Deep InfoMax, reproduced.

`dim.load_pretrained(NAME)` gives a released encoder, `dim.load_encoder(RUN_OR_CHECKPOINT)` that of a run.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dim.version import __version__

if TYPE_CHECKING:
    from dim.checkpoints import load_encoder
    from dim.release import load_pretrained

__all__ = ["__version__", "load_encoder", "load_pretrained"]

_HOMES = {"load_encoder": "dim.checkpoints", "load_pretrained": "dim.release"}


def __getattr__(name: str) -> Any:
    # Lazy, so that importing a small module of the package does not load torch.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'dim' has no attribute {name!r}")

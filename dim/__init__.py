"""Deep InfoMax, reproduced. `dim.load_encoder(RUN_OR_CHECKPOINT)` gives a trained encoder."""

from typing import TYPE_CHECKING, Any

from dim.version import __version__

if TYPE_CHECKING:
    from dim.checkpoints import load_encoder

__all__ = ["__version__", "load_encoder"]


def __getattr__(name: str) -> Any:
    # Lazy, so that importing a small module of the package does not load torch.
    if name == "load_encoder":
        from dim.checkpoints import load_encoder

        return load_encoder
    raise AttributeError(f"module 'dim' has no attribute {name!r}")

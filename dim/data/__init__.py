"""Image data: its `sources`, the `loader` that draws batches, and Lightning's view of both, the `datamodule`."""

from dim.data.datamodule import ImageData

__all__ = ["ImageData"]

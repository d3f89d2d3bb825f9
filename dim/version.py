"""The one place that holds the version; it imports nothing, so that `dim --version` is quick."""

__version__ = "0.1.0"

"""What a run is trained with, as plain values that can be compared: configs merged, options applied."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from dim.errors import UserError

SHORT = ("model", "data")
"""Parts whose options may leave out `init_args`: --model.negatives is model.init_args.negatives."""


def read_config(path: Path) -> dict[str, Any]:
    """A YAML config as a dictionary."""
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a config: it holds no options")
    return content


def merge(base: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """`other` on top of `base`, dictionary by dictionary, as the trainer merges several --config."""
    merged = dict(base)
    for name, value in other.items():
        old = merged.get(name)
        merged[name] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def parse_options(options: Sequence[str]) -> dict[str, Any]:
    """Options of `dim fit` (--a.b value or --a.b=value) as a config.

    Raises:
        UserError: an option without a value, a value without an option, or one that cannot be read.
    """
    config: dict[str, Any] = {}
    words = [part for word in options for part in (word.split("=", 1) if word.startswith("--") else [word])]
    if len(words) % 2:
        raise UserError(f"options for dim fit come in pairs, --option value: {' '.join(options)}")
    for option, value in zip(words[::2], words[1::2], strict=True):
        if not option.startswith("--"):
            raise UserError(f"'{option}' is no option for dim fit: it should begin with --")
        if option == "--config":
            raise UserError("--config is no option here: what a file holds could change unseen; give its options")
        path = option[2:].split(".")
        if path[0] in SHORT and len(path) == 2:
            path.insert(1, "init_args")
        try:
            nested: Any = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"{option} {value}: the value is not YAML: {' '.join(str(error).split())}") from error
        for part in reversed(path):
            nested = {part: nested}
        config = merge(config, nested)
    return config


def given(config: dict[str, Any], path: str) -> bool:
    """Whether there is anything at a dotted path."""
    missing = object()
    return get(config, path, missing) is not missing


def get(config: dict[str, Any], path: str, default: Any = None) -> Any:
    """The value at a dotted path, or `default`."""
    value: Any = config
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return default
        value = value[part]
    return value


def differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Dotted paths at which two configs differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        names = sorted(ours.keys() | theirs.keys())
        return [
            found
            for name in names
            for found in differences(ours.get(name), theirs.get(name), f"{path}.{name}" if path else name)
        ]
    return [] if ours == theirs else [path]

"""What a user meant by an option that does not exist."""

import difflib
import importlib
import inspect
import re
from collections.abc import Iterable

_CLASS = re.compile(r"class_path '(?P<place>[\w.]+)':\s+(?:-\s+)?Option '(?P<option>[^']+)' is not accepted")
_COMMAND = re.compile(r"Subcommand '(?P<place>\w+)' does not accept option '(?P<option>[^']+)'")


def clearer(message: str, groups: dict[str, type | None]) -> str:
    """A parser's complaint about an option that does not exist, in one short sentence that names the nearest one.

    Args:
        message: the parser's; other complaints are returned as they are.
        groups: options of the command line, and the class that says what those of a group are.
    """
    if found := _CLASS.search(message):
        module, _, name = found["place"].rpartition(".")
        owner = getattr(importlib.import_module(module), name)
        return f"{name} has no option '{found['option']}'{nearest(found['option'], parameters(owner))}"
    if found := _COMMAND.search(message):
        option = found["option"]
        group, dot, _ = option.partition(".")
        known = groups.get(group)
        names = [f"{group}.{name}" for name in parameters(known)] if dot and known else groups
        wanted = option if dot and known else group
        return f"dim {found['place']} has no option '{option}'{nearest(wanted, names)}"
    return message


def parameters(owner: type) -> list[str]:
    """Names of what a class is built with, through those that it hands **options on to."""
    names: list[str] = []
    for parent in owner.__mro__:
        if "__init__" not in vars(parent):
            continue
        found = inspect.signature(parent.__init__).parameters.values()  # type: ignore[misc]
        names += [p.name for p in found if p.name != "self" and p.kind is not p.VAR_KEYWORD]
        if not any(p.kind is p.VAR_KEYWORD for p in found):
            break
    return names


def nearest(option: str, known: Iterable[str]) -> str:
    """The end of a sentence about an `option` that is none of `known`: the one that was meant, or all."""
    known = list(known)
    if close := difflib.get_close_matches(option, known, n=1, cutoff=0.6):
        return f": did you mean '{close[0]}'?"
    return f"; there are {', '.join(known)}"

"""What a user meant by an option that does not exist, or by a value that an option cannot have."""

import difflib
import importlib
import inspect
import re
from collections.abc import Iterable

_CLASS = re.compile(r"class_path '(?P<place>[\w.]+)':\s+(?:-\s+)?Option '(?P<option>[^']+)' is not accepted")
_COMMAND = re.compile(
    r"(Subcommand '\w+' does not accept option '|[Uu]nrecognized arguments: --)(?P<option>[^'\s=]+)",
)
_KEY = re.compile(r'Parser key "(?P<key>[\w.]+)"')
_VALUE = re.compile(
    r'Parser key "(?P<key>[\w.]+)": Expected an? (?P<kind>.+?)\. Got value: (?P<value>.+?)(?: - Expected|$)'
)
_UNION = re.compile(r'Parser key "(?P<key>[\w.]+)": (?P<kind>Does not validate .+) Given value: (?P<value>.+)$')
_INSTANCE = re.compile(
    r'Parser key "(?P<key>\w+)": .*<class \'(?P<owner>[\w.]+)\'>, <class .* Given value: (?P<value>\S+)$'
)
_CHOICES = re.compile(r"Literal\[(.+?)\]")
KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "list": "a list, [A, B]"}


def clearer(message: str, groups: dict[str, type | None], command: str) -> str:
    """A parser's complaint about an option or a value that does not exist, in one short sentence, with the nearest one.

    Args:
        message: the parser's; other complaints are returned as they are.
        groups: options of the command line, and the class that says what those of a group are.
        command: what was called, `dim fit`.
    """
    message = " ".join(message.split())
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
        return f"{command} has no option '{option}'{nearest(wanted, names)}"
    if found := _INSTANCE.search(message):
        module, _, name = found["owner"].rpartition(".")
        built = classes(getattr(importlib.import_module(module), name))
        return f"{found['key']} is {found['value']}{nearest(found['value'], built)}"
    return _about_value(message) or message


def _about_value(message: str) -> str | None:
    """The complaint about a value of the wrong kind: what it may be."""
    found = [*_VALUE.finditer(message)] or [*_UNION.finditer(message)]
    if not found or "NestedArg" in (value := found[-1]["value"]):
        return None
    key, kind = found[-1]["key"], found[-1]["kind"]
    outer = _KEY.search(message)
    if outer and outer["key"] != key:
        key = f"{outer['key']}.{key}"
    choices = [choice.strip("' ") for group in _CHOICES.findall(kind) for choice in group.split(",")]
    if choices:
        return f"{key} is {value}{nearest(value, dict.fromkeys(choices))}"
    kinds = [text for name, text in KINDS.items() if re.search(rf"\b{name}\b", kind)]
    return f"{key} is {value}: it must be {' or '.join(kinds)}" if kinds else None


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


def classes(owner: type) -> list[str]:
    """Names of the classes below one, or its own if there is none."""
    children: list[type] = owner.__subclasses__()
    below = {name for child in children for name in (child.__name__, *classes(child))}
    return sorted(below) or [owner.__name__]


def nearest(option: str, known: Iterable[str]) -> str:
    """The end of a sentence about an `option` that is none of `known`: the one that was meant, or all."""
    known = list(known)
    if close := difflib.get_close_matches(option, known, n=1, cutoff=0.6):
        return f": did you mean '{close[0]}'?"
    return f"; there are {', '.join(known)}"

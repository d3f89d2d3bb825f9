"""The command line of a function: its signature, whole names of options, and the nearest one to a misspelt one."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from dim.errors import UserError, behind
from dim.suggestions import clearer


def parse(command: str, function: Callable[..., Any], arguments: Sequence[str], skip: Sequence[str] = ()) -> Any:
    """What `function` is to be called with: its parameters, but for `skip`, as `command` was given them.

    Raises:
        UserError: an option that does not exist, or a value that it cannot have.
    """
    # An abbreviation may be another option's name elsewhere: --seed of --seeds.
    parser = ArgumentParser(prog=command, description=_told(function), exit_on_error=False, allow_abbrev=False)
    parser.add_function_arguments(function, as_positional=True, skip=set(skip))
    try:
        return parser.instantiate(parser.parse_args(list(arguments)))
    except ArgumentError as error:
        if said := behind(error):
            raise said from None
        raise UserError(clearer(str(error), dict.fromkeys(parser.get_defaults().keys()), command)) from error


def _told(function: Callable[..., Any]) -> str:
    """What a docstring says between its first line, which heads the parameters, and their list."""
    _, _, rest = inspect.cleandoc(function.__doc__ or "").partition("\n\n")
    return " ".join(rest.partition("Args:")[0].split())

"""The command line of a function: its signature, whole names of options, and the nearest one to a misspelt one."""

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
    parser = ArgumentParser(prog=command, exit_on_error=False, allow_abbrev=False)
    parser.add_function_arguments(function, as_positional=True, skip=set(skip))
    try:
        return parser.instantiate(parser.parse_args(list(arguments)))
    except ArgumentError as error:
        if said := behind(error):
            raise said from None
        known = [name.removeprefix("--") for name in parser._option_string_actions if name.startswith("--")]
        raise UserError(clearer(str(error), dict.fromkeys(known), command)) from error

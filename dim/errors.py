"""The error that a user can mend, and looks at options that raise it."""

import math
from collections.abc import Iterable


class UserError(Exception):
    """Something the user gave is wrong: one line saying what, where, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """


def behind(error: BaseException) -> UserError | None:
    """The UserError in the chain that `error` ends: parsers wrap what a class that they build says."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, UserError):
            return link
        link = link.__cause__ or link.__context__
    return None


def at_least(least: float, **options: float) -> None:
    """Raises a UserError that names the first of `options` below `least`."""
    for name, value in options.items():
        if not value >= least:
            raise UserError(f"{name} is {value}: it must be at least {least}")


def one_of(choices: Iterable[str], **options: str) -> None:
    """Raises a UserError that names the first of `options` that is none of the choices."""
    known = list(choices)
    for name, value in options.items():
        if value not in known:
            raise UserError(f"{name} is '{value}': choose from {', '.join(known)}")


def positive(**options: float) -> None:
    """Raises a UserError that names the first of `options` that is not above zero and finite."""
    for name, value in options.items():
        if not 0 < value < math.inf:
            raise UserError(f"{name} is {value}: it must be a number above 0")

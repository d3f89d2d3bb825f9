"""The error that a user can mend."""


class UserError(Exception):
    """Something the user gave is wrong: one line saying what, where, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """

import pytest

from dim.errors import UserError
from dim.parsing import parse


def command(name: str, seeds: int = 1, extra: str = ""):
    """Does something.

    Args:
        name: what with.
        seeds: how often.
        extra: not of the command line.
    """


def test_a_signature_is_a_command_line():
    options = parse("dim command", command, ["x", "--seeds", "3"], skip=["extra"])
    assert dict(options) == {"name": "x", "seeds": 3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "--seed", "3"], "dim command has no option 'seed': did you mean 'seeds'?"),
        (["x", "--seeds", "many"], "seeds is many: it must be a whole number"),
        (["x", "--extra", "y"], "dim command has no option 'extra'"),
        ([], "required: name"),
    ],
)
def test_mistakes_say_what_was_meant(arguments, message):
    with pytest.raises(UserError) as error:
        parse("dim command", command, arguments, skip=["extra"])
    assert message in str(error.value)

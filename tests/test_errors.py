import math

import pytest

from dim.errors import UserError, at_least, behind, one_of, positive


def test_the_first_option_out_of_range_is_named():
    at_least(0, a=0, b=2.5)
    positive(a=1e-9, b=3)
    with pytest.raises(UserError, match="b is -1: it must be at least 0"):
        at_least(0, a=1, b=-1, c=-2)
    for value in (0, -1, math.inf, math.nan):
        with pytest.raises(UserError, match=f"rate is {value}: it must be a number above 0"):
            positive(rate=value)
    with pytest.raises(UserError, match="a is nan"):
        at_least(0, a=math.nan)


def test_the_first_option_that_is_no_choice_is_named():
    one_of(("a", "b"), x="a", y="b")
    with pytest.raises(UserError, match="y is 'c': choose from a, b"):
        one_of(iter("ab"), x="a", y="c", z="d")


def test_the_user_s_error_behind_others_is_found():
    said, wrapped = UserError("the first"), ValueError("what a parser says")
    wrapped.__cause__ = said
    assert behind(wrapped) is behind(said) is said
    assert behind(ValueError("alone")) is None

import warnings

import pytest

from dim.mine.doubt import warn_of_doubt


@pytest.mark.parametrize(
    ("estimate", "train", "steps", "message"),
    [
        (9.0, 9.0, (500, 500), "certify no more"),
        (1.0, 2.0, (500, 500), "overfits"),
        (0.2, 0.3, (2, 12), "the critic of step 2 of 12 was best"),
        (0.2, 0.3, (12, 12), None),
        (0.2, 0.3, (10, 30), None),
        (1.0, 1.3, (500, 500), None),
        (-0.1, 0.0, (500, 500), None),
        (8.0, 8.5, (500, 500), None),
    ],
)
def test_what_is_doubtful_is_said_in_one_line(estimate, train, steps, message):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_doubt(estimate, train, 9.2, "nats", *steps)
    assert len(caught) == (message is not None)
    assert all(message in str(warning.message) and "\n" not in str(warning.message) for warning in caught)

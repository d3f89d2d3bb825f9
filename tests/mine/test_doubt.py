import warnings

import pytest

from dim.mine.doubt import warn_of_doubt


@pytest.mark.parametrize(
    ("estimate", "train", "message"),
    [(9.0, 9.0, "certify no more"), (1.0, 2.0, "overfits"), (1.0, 1.3, None), (-0.1, 0.0, None), (8.0, 8.5, None)],
)
def test_what_is_doubtful_is_said_in_one_line(estimate, train, message):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_doubt(estimate, train, 9.2, "nats")
    assert len(caught) == (message is not None)
    assert all(message in str(warning.message) and "\n" not in str(warning.message) for warning in caught)

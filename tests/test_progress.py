import io

import pytest
from rich.console import Console

from dim.progress import bars


@pytest.mark.parametrize(("seconds", "printed"), [(30.0, ""), (-1.0, "encoding: 50%\nencoding: 100%\n")])
def test_outside_a_terminal_there_is_a_line_now_and_then(seconds, printed, monkeypatch):
    monkeypatch.setattr("dim.progress.SECONDS", seconds)
    stream = io.StringIO()
    with bars(Console(file=stream, force_terminal=False)) as report:
        report("encoding", 0.5)
        report("encoding", 1.0)
    assert stream.getvalue() == printed


def test_bars_name_every_description_in_a_terminal():
    stream = io.StringIO()
    with bars(Console(file=stream, force_terminal=True, width=100)) as report:
        report("encoding", 1.0)
        report("svm runs", 0.5)
    assert "encoding" in stream.getvalue()
    assert "svm runs" in stream.getvalue()

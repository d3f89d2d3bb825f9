import io

from rich.console import Console

from dim.evaluation.progress import bars


def test_bars_print_nothing_outside_a_terminal():
    stream = io.StringIO()
    with bars(Console(file=stream, force_terminal=False)) as report:
        report("encoding", 0.5)
        report("encoding", 1.0)
    assert stream.getvalue().strip() == ""


def test_bars_name_every_description_in_a_terminal():
    stream = io.StringIO()
    with bars(Console(file=stream, force_terminal=True, width=100)) as report:
        report("encoding", 1.0)
        report("svm runs", 0.5)
    assert "encoding" in stream.getvalue()
    assert "svm runs" in stream.getvalue()

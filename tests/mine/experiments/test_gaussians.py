import csv
import dataclasses
import json
import math

import pytest

from dim import cli
from dim.mine.estimator import DivergenceError
from dim.mine.experiments import gaussians, measure
from dim.mine.experiments.measure import Training

TINY = Training(steps=20, batch_size=32, widths=(8,), test_pairs=200, kraskov_pairs=200)


@pytest.fixture
def tiny(monkeypatch):
    plan = dataclasses.replace(gaussians.PROTOCOLS["quick"], training=TINY, samples=(200,))
    monkeypatch.setitem(gaussians.PROTOCOLS, "quick", plan)


def test_everything_is_written_once_and_goes_on(tiny, tmp_path, capsys):
    options = ["mine", "gaussians", "--output", str(tmp_path), "--rho", "[-0.5, 0.0, 0.9]", "--estimators"]
    cli.main([*options, "[dv, kraskov]"])
    names = {path.name for path in tmp_path.glob("[!.]*")}
    pictures = {f"gaussians-{plot}.{kind}" for plot in ("rho", "bias", "samples") for kind in ("png", "svg")}
    assert names == {"gaussians.json", "gaussians.csv"} | pictures
    rows = list(csv.DictReader((tmp_path / "gaussians.csv").open()))
    assert len(rows) == 2 * 3 * 2 + 2 * 2
    assert {float(row["truth"]) for row in rows if row["rho"] == "0.0"} == {0.0}
    before = json.loads((tmp_path / "gaussians.json").read_text())
    cli.main([*options, "[dv, nwj, kraskov]"])
    after = json.loads((tmp_path / "gaussians.json").read_text())
    assert after["cells"][: len(before["cells"])] == before["cells"]
    assert len(after["cells"]) == 2 * 3 * 3 + 2 * 3
    assert "MINE-f (nwj)" in capsys.readouterr().out


def test_summaries_are_means_over_seeds():
    cell = {"size": 2, "rho": 0.5, "estimator": "dv", "truth": 4.0}
    rows = [{**cell, "estimate": value} for value in (3.9, 4.1, 3.7)]
    (found,) = gaussians._summary(rows)
    assert found["mean"] == pytest.approx(3.9)
    assert found["std"] == pytest.approx(0.2)
    assert (found["right"], found["seeds"]) == (2, 3)
    assert found["diverged"] == 0
    (partly,) = gaussians._summary([*rows, {**cell, "status": "diverged"}])
    assert (partly["mean"], partly["diverged"], partly["seeds"]) == (pytest.approx(3.9), 1, 4)
    assert gaussians._text(partly, ceiling=9.0).endswith("1 diverged")
    (nothing,) = gaussians._summary([{**cell, "status": "diverged"}])
    assert math.isnan(nothing["mean"])
    assert measure.tolerance(0.0) == 0.1
    assert measure.tolerance(4.0) == 0.2


def test_mistakes_are_one_line(tmp_path, capsys):
    for options in (
        ["--rho", "[1.0]"],
        ["--rho", "[]"],
        ["--sizes", "[]"],
        ["--seeds", "0"],
        ["--estimators", "[mi]"],
        ["--protocol", "slow"],
    ):
        with pytest.raises(SystemExit):
            cli.main(["mine", "gaussians", "--output", str(tmp_path), *options])
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_estimators_without_a_plot_of_consistency_and_trainings_that_diverge(tiny, tmp_path, monkeypatch):
    command = ["mine", "gaussians", "--sizes", "[2]", "--rho", "[0.5]", "--output", str(tmp_path)]
    cli.main([*command, "--estimators", "[infonce]"])
    assert not (tmp_path / "gaussians-samples.png").exists()

    def diverge(*_):
        raise DivergenceError("on purpose")

    monkeypatch.setattr("dim.mine.MINE.fit", diverge)
    cli.main([*command, "--estimators", "[dv]"])
    assert (tmp_path / "gaussians-samples.png").exists()


def test_a_star_is_of_all_seeds_and_a_caret_of_more_than_can_be_certified():
    entry = {"mean": 2.0, "std": 0.25, "seeds": 2, "right": 2, "diverged": 0}
    assert gaussians._text(entry, 5.0) == "2.000 (0.250)*"
    assert gaussians._text({**entry, "right": 1}, 5.0) == "2.000 (0.250) "
    assert gaussians._text(entry, 1.9) == "2.000 (0.250)^"
    assert gaussians._text({**entry, "seeds": 3, "diverged": 1}, 5.0) == "2.000 (0.250) , 1 diverged"


def test_the_bias_is_what_the_estimate_is_too_high():
    rows = [
        {"size": 2, "rho": 0.5, "estimator": "dv", "truth": 1.0, "estimate": value, "seed": seed}
        for seed, value in enumerate((1.2, 1.4))
    ]
    bias, variance = gaussians._bias(rows, [2]).axes
    assert bias.lines[0].get_ydata() == pytest.approx([0.3])
    assert variance.lines[0].get_ydata() == pytest.approx([0.02])

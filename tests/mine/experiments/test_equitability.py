import csv
import dataclasses

import pytest

from dim import cli
from dim.mine.experiments import equitability
from dim.mine.experiments.measure import Training
from dim.mine.samplers import Noisy


def test_estimates_and_truths_of_every_function(tmp_path, monkeypatch, capsys):
    training = Training(steps=20, batch_size=32, widths=(8,), test_pairs=200, kraskov_pairs=500)
    plan = dataclasses.replace(equitability.PROTOCOLS["quick"], training=training)
    monkeypatch.setitem(equitability.PROTOCOLS, "quick", plan)
    cli.main(["mine", "equitability", "--sigma", "[0.3, 0.9]", "--output", str(tmp_path)])
    assert {path.name for path in tmp_path.glob("[!.]*")} == {
        f"equitability.{kind}" for kind in ("json", "csv", "png", "svg")
    }
    rows = list(csv.DictReader((tmp_path / "equitability.csv").open()))
    assert len(rows) == 2 * 3 * 2
    for row in rows:
        assert float(row["truth"]) == pytest.approx(Noisy(row["function"], float(row["sigma"])).information)
    assert "furthest off" in capsys.readouterr().out


def test_mistakes_are_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(["mine", "equitability", "--sigma", "[0.0]", "--output", str(tmp_path)])
    assert capsys.readouterr().err.count("\n") == 1


def test_the_furthest_estimate_is_named_on_either_side_and_stars_are_of_all_seeds(capsys):
    entry = {"truth": 1.0, "right": 1, "seeds": 2, "diverged": 0}
    found = {("dv", function, 0.1): {**entry, "mean": 1.2} for function in equitability.FUNCTIONS}
    low = list(equitability.FUNCTIONS)[1]
    found["dv", low, 0.1] = {**entry, "mean": 0.5, "right": 2}
    equitability._print(found, ["dv"], [0.1])
    printed = capsys.readouterr().out
    assert f"furthest off at f = {low}, sigma = 0.1: -0.500 nats" in printed
    assert "0.500*" in printed
    assert "1.200*" not in printed

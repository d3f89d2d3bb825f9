import csv
import json

import pytest
import torch

from dim import cli
from dim.mine import mixtures
from dim.mine.experiments import gan


def run(tmp_path, *options):
    cli.main(["mine", "gan", "--iterations", "10", "--output", str(tmp_path), *options])


def test_files_table_and_plots(tmp_path, capsys):
    run(tmp_path, "--seeds", "2", "--data", "spiral")
    printed = capsys.readouterr().out
    assert "GAN + MINE" in printed
    content = json.loads((tmp_path / "gan-spiral.json").read_text())
    assert [tuple(cell["setting"].values()) for cell in content["cells"]] == [
        ("gan", 0),
        ("gan+mine", 0),
        ("gan", 1),
        ("gan+mine", 1),
    ]
    assert content["cells"][0]["result"]["information"] is None
    rows = list(csv.DictReader((tmp_path / "gan-spiral.csv").open()))
    assert [row["variant"] for row in rows] == ["data", "gan", "gan+mine", "gan", "gan+mine"]
    assert rows[0]["modes"] == "25"
    for name in ("gan-spiral.png", "gan-spiral-seeds.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_finished_cells_are_not_trained_again(tmp_path, monkeypatch):
    trained, train = [], gan.train

    def recorded(goal, settings, mine, seed, *rest):
        trained.append((mine, seed))
        return train(goal, settings, mine, seed, *rest)

    monkeypatch.setattr(gan, "train", recorded)
    for picture in ("_three", "_all"):
        monkeypatch.setattr(gan, picture, lambda path, *_: path)
    run(tmp_path, "--seeds", "1")
    before = json.loads((tmp_path / "gan-grid.json").read_text())["cells"]
    trained.clear()
    run(tmp_path, "--seeds", "2")
    assert trained == [(False, 1), (True, 1)]
    assert json.loads((tmp_path / "gan-grid.json").read_text())["cells"][:2] == before


def test_means_and_deviations_over_seeds():
    rows = [{"variant": "gan", "modes": modes} for modes in (10, 14)] + [{"variant": "gan+mine", "modes": 25}]
    assert gan.summary(rows, "gan", "modes") == "12 ± 2.83"
    assert gan.summary(rows, "gan+mine", "modes") == "25"


def test_what_is_measured_is_the_generator_s_samples(tmp_path, monkeypatch):
    """Players that sample the data themselves cover as the data do; at the end, and on the way there."""

    class Perfect:
        def sample(self, number, seed):
            return goal.sample(number, torch.Generator().manual_seed(seed))

    def pretend(_goal, settings, mine, seed, device, every, watch):
        for iteration in range(every, settings.iterations + 1, every):
            watch(iteration, Perfect(), float(iteration))
        return Perfect()

    goal = mixtures.target("grid")
    monkeypatch.setattr(gan, "train", pretend)
    for picture in ("_three", "_all"):
        monkeypatch.setattr(gan, picture, lambda path, *_: path)
    cli.main(["mine", "gan", "--iterations", "100", "--seeds", "1", "--output", str(tmp_path)])
    expected = mixtures.coverage(goal.sample(10_000, torch.Generator().manual_seed(10**6)), goal)
    for cell in json.loads((tmp_path / "gan-grid.json").read_text())["cells"]:
        result = cell["result"]
        assert {name: result[name] for name in expected} == pytest.approx(expected)
        assert [point["iteration"] for point in result["history"]] == list(range(10, 101, 10))
        assert result["history"][0] == pytest.approx({"iteration": 10, "information": 10.0, **expected})
        assert result["information"] == 100.0
        assert len(result["samples"]) == 2500


@pytest.mark.parametrize("options", [["--seeds", "0"], ["--beta", "0"], ["--data", "ring"], ["--beta", "nan"]])
def test_bad_input_is_one_line(tmp_path, capsys, options):
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, *options)
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
